// Injector: a process that nobody prepared for it stands still and makes system calls for
// gobmigrate, as if its program had made them (ptrace(2), x86-64). All its threads stand; one of
// them makes the calls, and has its registers, its signals and its interrupted system call back
// afterwards. One thread, which is the tracer.
#pragma once

#include <sys/types.h>
#include <sys/user.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "libgob/base/result.h"

namespace gob::migration {

class Injector {
 public:
  // Returns when all its threads stand; those of a stopped process (SIGSTOP) stood before. An error
  // says who does not, and all go on: it is being traced, of another kind of machine, or one of its
  // threads waits in the kernel for longer than `limit`.
  static Result<Injector> stop(pid_t pid, std::chrono::milliseconds limit);
  // It goes on where it was, or stands, if it was stopped.
  ~Injector();
  Injector(Injector&& other) noexcept;
  Injector& operator=(Injector&&) = delete;

  [[nodiscard]] pid_t pid() const { return pid_; }
  // What the call returns; an error of the kernel is one, with `what` in front of it. The call must
  // not wait. kLost: the process has ended.
  using Arguments = std::array<std::uint64_t, 6>;
  Result<std::uint64_t> call(const std::string& what, long number, const Arguments& arguments);
  // Memory of the process.
  Status read(std::uint64_t address, void* to, std::size_t bytes) const;
  Status write(std::uint64_t address, const void* from, std::size_t bytes) const;

  // The system calls in which its threads stand, and which they will go on with.
  struct Waiting {
    pid_t thread = 0;
    std::uint64_t number = 0;
    Arguments arguments{};
  };
  [[nodiscard]] std::vector<Waiting> waiting() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Thread {
    pid_t id = 0;
    bool stood = false;  // before
    bool gone = false;
  };
  explicit Injector(pid_t pid) : pid_(pid) {}
  Status seize_all(Clock::time_point deadline);
  Status halt(Thread& thread, Clock::time_point deadline);
  // Its next stop, by wait(2).
  Result<int> await(Thread& thread, Clock::time_point deadline) const;
  Status begin();  // the first call is to be made
  Status find_gate();
  void give_back();
  void let_go();

  pid_t pid_;
  std::vector<Thread> threads_;
  std::vector<int> withheld_;  // signals that came meanwhile and cannot be blocked
  // Of the thread that makes calls, once it has begun:
  std::size_t caller_ = 0;
  bool begun_ = false;
  user_regs_struct before_{};
  std::uint64_t mask_ = 0;
  std::uint64_t gate_ = 0;  // address of a syscall instruction
};

}  // namespace gob::migration
