// CRIU as a program: found, probed, called with a time limit. Used by one thread; forks.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"

namespace gob::migration {

// A child process that is killed and reaped when this object ends.
class Child {
 public:
  // argv[0] is looked for in PATH. Of the descriptors only 0 to 2 (null, and `log` if it is not -1)
  // and `keep` are open in it, under their own numbers. `beside`: a process whose pid and mount
  // namespaces it runs in. `environment`: NAME=VALUE, instead of or beside what is inherited.
  static Result<Child> start(const std::vector<std::string>& argv, const std::vector<int>& keep,
                             int log = -1, pid_t beside = 0,
                             const std::vector<std::string>& environment = {});
  Child(Child&& other) noexcept = default;
  Child& operator=(Child&&) = delete;
  ~Child();

  // Its exit status; kTimedOut, and it is killed, when it takes longer.
  Result<int> wait(std::chrono::milliseconds limit);
  [[nodiscard]] int fd() const { return pidfd_.get(); }  // readable once it has ended
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  Child(pid_t pid, UniqueFd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}
  pid_t pid_;  // meaningful while pidfd_ is
  UniqueFd pidfd_;
};

// Runs `program --version`: a version of at least 3.17, as "3.17.1".
Result<std::string> probe_criu(const std::string& program);
// Whether it works on this kernel: it looks at that, not at a process, some tenths of a second.
// kUnsupported: what is wrong, and what to do. `version`: as probe_criu() said.
Status try_criu(const std::string& program, const std::string& version);
// What to do about a log of CRIU that says that it does not know this kernel; else empty.
std::string remedy_for(const std::string& log_text);
// What a log of CRIU says went wrong, from its byte `from` on: what comes before is of its looks at
// the kernel, where not all has to work.
std::string errors_of_log(const std::string& path, std::uint64_t from = 0);
// How long the log is; 0 if there is none.
std::uint64_t length_of_log(const std::string& path);

}  // namespace gob::migration
