// Processes that outlive the gobctl that started them: started apart from the terminal, found again
// by number and start time, signalled and awaited through a pidfd, so that a number that was given
// to another process meanwhile is never hit. Used by one thread.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "gobctl/cluster_dir.h"
#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"

namespace gob::ctl {

class Process {
 public:
  Process(pid_t pid, UniqueFd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}

  [[nodiscard]] pid_t pid() const { return pid_; }
  // Readable when the process has ended.
  [[nodiscard]] int fd() const { return pidfd_.get(); }
  // A process that has ended is no error.
  Status signal(int number) const;
  // For a child that ended: how, in words ("ended with status 1").
  [[nodiscard]] std::string end_in_words() const;

 private:
  pid_t pid_;
  UniqueFd pidfd_;
};

struct Command {
  std::vector<std::string> argv;         // argv[0] is a path
  std::vector<std::string> environment;  // NAME=value, besides what gobctl has
  std::string log;                       // standard output and error are appended to it
  std::string network_namespace;         // name of `ip netns`; empty: gobctl's own
};
// In a session of its own, all signals as at the start of a program. An error also when the program
// could not be executed.
Result<Process> start_daemon(const Command& command);

// Writes pid() and identity() of the node; the process must be alive.
Status record_process(const NodeDir& node, const Process& process);
// The process that was recorded, if it still runs.
Result<std::optional<Process>> find_process(const NodeDir& node);

// Waits until all have ended; false if the time is over before.
bool wait_for_end(const std::vector<const Process*>& processes, std::chrono::milliseconds timeout);

}  // namespace gob::ctl
