// examples/hello_shared as a newcomer runs it: several processes that find their gobd by
// GOB_SOCKET.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vector>

#include "tests/client/fake_gobd.h"

namespace gob::test {
namespace {

TEST(Example, FourProcessesAgreeOnTheSum) {
  const FakeGobd gobd;
  ASSERT_EQ(::setenv("GOB_SOCKET", gobd.socket().c_str(), 1), 0);
  std::vector<pid_t> children;
  for (const char* rank : {"0", "1", "2", "3"}) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::execl(HELLO_SHARED, HELLO_SHARED, rank, "4", nullptr);
      ::_exit(127);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
}

}  // namespace
}  // namespace gob::test
