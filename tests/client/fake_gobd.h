// A gobd of one node for tests of libgob: real control protocol, real userfaultfd, and the simplest
// memory there is: a page is zero until written here. Runs in a child process, so that it can be
// killed. Faults in containers whose name begins with "stall" are never answered.
#pragma once

#include <sys/types.h>

#include <string>

namespace gob::test {

class FakeGobd {
 public:
  // Forks; returns when the socket listens.
  FakeGobd();
  ~FakeGobd();
  FakeGobd(const FakeGobd&) = delete;
  FakeGobd& operator=(const FakeGobd&) = delete;

  [[nodiscard]] const std::string& socket() const { return socket_; }
  // SIGKILL, and waits for its end.
  void kill();

 private:
  std::string dir_;
  std::string socket_;
  pid_t child_ = -1;
};

}  // namespace gob::test
