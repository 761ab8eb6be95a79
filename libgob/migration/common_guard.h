// CommonGuard: what becomes of programs with containers mapped for them when whoever holds these
// mappings dies. A process of its own has a second descriptor of each userfaultfd, so that an
// access waits, and then takes the memory away (common_loss.h). Used by one thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"

namespace gob::migration {

class CommonGuard {
 public:
  // Forks: before there are threads or connections. `gobd`: its socket. `news`: where gobd sends
  // what children get, which the guard takes in when this process has died.
  static Result<CommonGuard> start(const std::string& gobd, int news);
  // Without done() before, this process's end is its death.
  ~CommonGuard() = default;
  CommonGuard(CommonGuard&&) noexcept = default;
  CommonGuard& operator=(CommonGuard&&) = delete;

  // This process has such memory from now on; `uffd` is one of its, or -1. A negative number: a
  // child whose own is not known yet.
  // `memory`: the inode of gobd's file of the container, 0: not known.
  Status hold(pid_t pid, int uffd, std::uint64_t memory = 0);
  // It has ended, or has moved away.
  Status release(pid_t pid);
  // A container that this process uses, or is about to make: whoever is left gives it up. `keeper`:
  // its lock's number there.
  Status uses(const std::string& container, int keeper);
  // A System V segment that only holds a key, and is removed when all has ended.
  Status hold_key(int segment);
  // All is in order.
  void done();

 private:
  explicit CommonGuard(UniqueFd socket) : socket_(std::move(socket)) {}
  [[noreturn]] static void guard(int socket, const std::string& gobd, int news);
  struct Word;
  Status say(const Word& word, int fd = -1);
  UniqueFd socket_;
};

}  // namespace gob::migration
