// When gobd dies no access hangs and none reads zeros: the guardian.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "libgob/base/unique_fd.h"
#include "libgob/gob.h"
#include "tests/client/bus_error.h"
#include "tests/client/fake_gobd.h"

namespace gob::test {
namespace {

using ::testing::HasSubstr;

constexpr std::size_t kBytes = 16 * 4096;

// Waits until thread `tid` of this process sleeps in the kernel's fault handling, so that what
// follows finds it there. The kernel offers no event for this.
void wait_until_blocked_in_fault(pid_t tid) {
  const std::string path = "/proc/self/task/" + std::to_string(tid) + "/wchan";
  for (std::string where; where != "handle_userfault";) {
    std::ifstream(path) >> where;
    std::this_thread::yield();
  }
}

class ClientGuardianTest : public ::testing::Test {
 protected:
  void SetUp() override {
    catch_bus_errors();
    ASSERT_EQ(gob_connect(gobd_.socket().c_str(), &connection_), 0) << gob_last_error();
  }
  void TearDown() override { EXPECT_EQ(gob_disconnect(connection_), 0); }

  char* map_new(const char* name) {
    EXPECT_EQ(gob_create(connection_, name, kBytes, 0600), 0) << gob_last_error();
    gob_container* container = nullptr;
    EXPECT_EQ(gob_open(connection_, name, GOB_READ | GOB_WRITE, &container), 0);
    void* address = nullptr;
    EXPECT_EQ(gob_map(container, 0, 0, GOB_READ | GOB_WRITE, &address), 0) << gob_last_error();
    return static_cast<char*>(address);
  }
  // A thread that touches `address`, and is in the middle of it when this returns.
  std::future<bool> blocked_access(char* address, bool write) {
    std::promise<pid_t> started;
    auto tid = started.get_future();
    auto result = std::async(std::launch::async, [address, write, &started] {
      started.set_value(::gettid());
      return access_raises_bus_error(address, write);
    });
    wait_until_blocked_in_fault(tid.get());
    return result;
  }

  FakeGobd gobd_;
  gob_connection* connection_ = nullptr;
};

TEST_F(ClientGuardianTest, ThreadsBlockedInAFaultGetSigbus) {
  char* memory = map_new("stall");
  auto reader = blocked_access(memory, false);
  auto writer = blocked_access(memory + 4096, true);
  gobd_.kill();
  EXPECT_TRUE(reader.get());
  EXPECT_TRUE(writer.get());
  EXPECT_TRUE(access_raises_bus_error(memory + 2 * 4096, false)) << "later accesses too";
}

TEST_F(ClientGuardianTest, PagesThatWereHereRaiseSigbusInsteadOfGoingStale) {
  char* memory = map_new("resident");
  std::strcpy(memory, "written");
  gobd_.kill();
  // Mapped pages need no fault, so nothing but the guardian ends this.
  while (!access_raises_bus_error(memory, false)) std::this_thread::yield();
  EXPECT_TRUE(access_raises_bus_error(memory, true));
}

TEST_F(ClientGuardianTest, KernelAccessesFailInsteadOfHanging) {
  char* memory = map_new("stall");
  int ends[2] = {-1, -1};
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd read_end(ends[0]);
  const UniqueFd write_end(ends[1]);
  std::promise<pid_t> started;
  auto tid = started.get_future();
  auto result = std::async(std::launch::async, [&] {
    started.set_value(::gettid());
    const ssize_t written = ::write(write_end.get(), memory, 1);
    return written < 0 ? errno : 0;
  });
  wait_until_blocked_in_fault(tid.get());
  gobd_.kill();
  EXPECT_EQ(result.get(), EFAULT);
}

TEST_F(ClientGuardianTest, CallsFailWithENOTCONNThenANewConnectionWorks) {
  char* memory = map_new("stall");
  auto waiting = std::async(std::launch::async,
                            [&] { return gob_barrier_wait(connection_, "never", 2, GOB_FOREVER); });
  auto blocked = blocked_access(memory, false);
  gobd_.kill();
  EXPECT_EQ(waiting.get(), -ENOTCONN);
  EXPECT_TRUE(blocked.get());
  EXPECT_EQ(gob_create(connection_, "x", 4096, 0600), -ENOTCONN);
  EXPECT_THAT(gob_last_error(), HasSubstr("beta"));
  EXPECT_EQ(gob_unmap(connection_, memory), 0) << gob_last_error();
  EXPECT_EQ(gob_disconnect(connection_), 0);
  connection_ = nullptr;

  const FakeGobd next;
  ASSERT_EQ(gob_connect(next.socket().c_str(), &connection_), 0) << gob_last_error();
  std::strcpy(map_new("fresh"), "works");
}

// Runs `scenario` with stderr going into a pipe; returns what came.
template <class F>
std::string stderr_of(F scenario) {
  int ends[2] = {-1, -1};
  EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  const UniqueFd saved(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0));
  EXPECT_GE(::dup2(write_end.get(), STDERR_FILENO), 0);
  scenario();
  EXPECT_GE(::dup2(saved.get(), STDERR_FILENO), 0);
  write_end.reset();
  std::string text;
  char buffer[512];
  for (ssize_t got = 0; (got = ::read(read_end.get(), buffer, sizeof buffer)) > 0;) {
    text.append(buffer, static_cast<std::size_t>(got));
  }
  return text;
}

TEST_F(ClientGuardianTest, OneLineNamesNodeAndContainers) {
  const std::string text = stderr_of([&] {
    map_new("one");
    char* memory = map_new("stall");
    auto blocked = blocked_access(memory, false);
    gobd_.kill();
    EXPECT_TRUE(blocked.get());
    gob_disconnect(connection_);  // waits for the guardian
    connection_ = nullptr;
  });
  EXPECT_THAT(text, HasSubstr("beta"));
  EXPECT_THAT(text, HasSubstr("\"one\""));
  EXPECT_THAT(text, HasSubstr("\"stall\""));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
}

TEST_F(ClientGuardianTest, GobQuietKeepsStderrClean) {
  ASSERT_EQ(gob_disconnect(connection_), 0);
  ASSERT_EQ(::setenv("GOB_QUIET", "1", 1), 0);
  ASSERT_EQ(gob_connect(gobd_.socket().c_str(), &connection_), 0) << gob_last_error();
  const std::string text = stderr_of([&] {
    char* memory = map_new("stall");
    auto blocked = blocked_access(memory, false);
    gobd_.kill();
    EXPECT_TRUE(blocked.get());
    gob_disconnect(connection_);
    connection_ = nullptr;
  });
  ASSERT_EQ(::unsetenv("GOB_QUIET"), 0);
  EXPECT_EQ(text, "");
}

}  // namespace
}  // namespace gob::test
