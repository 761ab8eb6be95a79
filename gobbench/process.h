// Process: a child that this program starts, watches and ends. Owned by the main thread: a child
// dies with the thread that started it.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"

namespace gob::bench {

struct SpawnOptions {
  std::vector<std::string> argv;         // argv[0]: a path, or a name looked up in PATH
  std::vector<std::string> environment;  // NAME=value, added to this program's own
  int stdin_fd = -1;                     // -1: /dev/null
  int stdout_fd = -1;                    // -1: as this program's
  int stderr_fd = -1;
  int netns_fd = -1;            // network namespace to run in; -1: this program's
  std::optional<unsigned> cpu;  // core to run on
};

class Process {
 public:
  static Result<Process> spawn(const SpawnOptions& options);

  Process() = default;
  Process(Process&& other) noexcept;
  Process& operator=(Process&& other) noexcept;
  ~Process() { kill(); }

  [[nodiscard]] pid_t pid() const { return pid_; }
  // Readable once the child has ended.
  [[nodiscard]] int pidfd() const { return pidfd_.get(); }
  // How the child ended, in words ("exited with 1", "was killed by SIGBUS"); empty while it runs or
  // after a clean exit. Does not wait.
  [[nodiscard]] std::string ending();
  // Waits for the end. Fails with kTimedOut, or with kSystem unless it exited with 0.
  Status wait(std::chrono::milliseconds timeout);
  // Ends the child if it still runs, and reaps it.
  void kill();

 private:
  Process(pid_t pid, UniqueFd pidfd, std::string name)
      : pid_(pid), pidfd_(std::move(pidfd)), name_(std::move(name)) {}
  bool reap(int options);

  pid_t pid_ = -1;
  UniqueFd pidfd_;
  std::string name_;
  std::optional<int> status_;  // of waitpid
};

// Runs a short command to its end (at most a minute) and returns what it printed on stdout and
// stderr. Fails if it cannot run or does not exit with 0; the error ends with what it printed.
[[nodiscard]] Result<std::string> output_of(SpawnOptions options);

// Keeps the calling thread on `cpu`, and where it was before after destruction.
class PinnedThread {
 public:
  explicit PinnedThread(std::optional<unsigned> cpu);
  PinnedThread(const PinnedThread&) = delete;
  PinnedThread& operator=(const PinnedThread&) = delete;
  ~PinnedThread();

 private:
  std::optional<std::vector<unsigned>> before_;
};

// Cores this program may run on, ascending.
[[nodiscard]] std::vector<unsigned> usable_cpus();

}  // namespace gob::bench
