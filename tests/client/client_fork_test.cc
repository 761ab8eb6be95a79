// A forked child of a program that uses libgob.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <string>
#include <thread>

#include "libgob/base/unique_fd.h"
#include "libgob/gob.h"
#include "tests/client/bus_error.h"
#include "tests/client/fake_gobd.h"

namespace gob::test {
namespace {

class ClientForkTest : public ::testing::Test {
 protected:
  void SetUp() override {
    catch_bus_errors();
    ASSERT_EQ(gob_connect(gobd_.socket().c_str(), &connection_), 0) << gob_last_error();
  }
  void TearDown() override { EXPECT_EQ(gob_disconnect(connection_), 0); }

  char* map_new(const char* name) {
    EXPECT_EQ(gob_create(connection_, name, 4096, 0600), 0) << gob_last_error();
    gob_container* container = nullptr;
    EXPECT_EQ(gob_open(connection_, name, GOB_READ | GOB_WRITE, &container), 0);
    void* address = nullptr;
    EXPECT_EQ(gob_map(container, 0, 0, GOB_READ | GOB_WRITE, &address), 0) << gob_last_error();
    return static_cast<char*>(address);
  }
  // What the child's body returned; it runs in a child of this process.
  template <class F>
  int status_of_child(F body) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(body());
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  FakeGobd gobd_;
  gob_connection* connection_ = nullptr;
};

TEST_F(ClientForkTest, TheChildIsRefusedAndTheParentGoesOn) {
  char* memory = map_new("c");
  memory[0] = 'p';
  EXPECT_EQ(status_of_child([&] {
              if (gob_create(connection_, "x", 4096, 0600) != -EINVAL) return 1;
              if (std::string(gob_last_error()).find("forked") == std::string::npos) return 2;
              if (gob_lock(connection_, "l", 0) != -EINVAL) return 3;
              if (gob_unmap(connection_, memory) != -EINVAL) return 4;
              if (gob_disconnect(connection_) != 0) return 5;
              return 0;
            }),
            0);
  EXPECT_EQ(memory[0], 'p');
  EXPECT_EQ(gob_create(connection_, "x", 4096, 0600), 0) << gob_last_error();
}

TEST_F(ClientForkTest, TheChildHasNoneOfTheMappings) {
  char* memory = map_new("c");
  memory[0] = 'p';
  EXPECT_EQ(status_of_child([&] {
              ::signal(SIGSEGV, SIG_DFL);
              return static_cast<int>(*static_cast<volatile char*>(memory));
            }),
            128 + SIGSEGV);
}

// ThreadSanitizer does not follow a child that starts threads after a threaded parent forked it.
#ifndef __SANITIZE_THREAD__
TEST_F(ClientForkTest, TheChildMayConnectByItself) {
  EXPECT_EQ(status_of_child([&] {
              gob_connection* own = nullptr;
              if (gob_connect(gobd_.socket().c_str(), &own) != 0) return 1;
              if (gob_create(own, "of-the-child", 4096, 0600) != 0) return 2;
              return gob_disconnect(own) == 0 ? 0 : 3;
            }),
            0);
  gob_container* container = nullptr;
  EXPECT_EQ(gob_open(connection_, "of-the-child", GOB_READ, &container), 0) << gob_last_error();
}

#endif

// A child that lives on must neither hide the parent's death from gobd...
TEST(ClientFork, AChildDoesNotKeepItsDeadParentsLock) {
  const FakeGobd gobd;
  int ends[2] = {-1, -1};
  ASSERT_EQ(::pipe(ends), 0);
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  const pid_t parent = ::fork();
  if (parent == 0) {
    gob_connection* own = nullptr;
    if (gob_connect(gobd.socket().c_str(), &own) != 0) ::_exit(1);
    if (gob_lock(own, "l", 0) != 0) ::_exit(2);
    const pid_t grandchild = ::fork();
    if (grandchild == 0) {
      ::pause();
      ::_exit(0);
    }
    if (::write(ends[1], &grandchild, sizeof grandchild) != sizeof grandchild) ::_exit(3);
    ::pause();
  }
  write_end.reset();
  pid_t grandchild = -1;
  ASSERT_EQ(::read(ends[0], &grandchild, sizeof grandchild),
            static_cast<ssize_t>(sizeof grandchild));
  gob_connection* connection = nullptr;
  ASSERT_EQ(gob_connect(gobd.socket().c_str(), &connection), 0) << gob_last_error();
  ASSERT_EQ(gob_trylock(connection, "l"), -EBUSY);
  ::kill(parent, SIGKILL);
  EXPECT_EQ(gob_lock(connection, "l", GOB_FOREVER), -EOWNERDEAD);
  EXPECT_EQ(gob_unlock(connection, "l"), 0);
  EXPECT_EQ(gob_disconnect(connection), 0);
  ::kill(grandchild, SIGKILL);
  ::waitpid(parent, nullptr, 0);
}

// ... nor keep the parent's faults waiting when gobd is dead.
TEST_F(ClientForkTest, AChildDoesNotHoldUpTheGuardian) {
  char* memory = map_new("stall");
  const pid_t child = ::fork();
  if (child == 0) {
    ::pause();
    ::_exit(0);
  }
  auto blocked =
      std::async(std::launch::async, [&] { return access_raises_bus_error(memory, false); });
  gobd_.kill();
  EXPECT_TRUE(blocked.get());
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
}

TEST_F(ClientForkTest, ForksWhileOtherThreadsMapAndCall) {
  ASSERT_EQ(gob_create(connection_, "c", 4096, 0600), 0);
  gob_container* container = nullptr;
  ASSERT_EQ(gob_open(connection_, "c", GOB_READ | GOB_WRITE, &container), 0);
  std::atomic<bool> stop = false;
  std::thread mapper([&] {
    while (!stop) {
      void* address = nullptr;
      ASSERT_EQ(gob_map(container, 0, 0, GOB_READ | GOB_WRITE, &address), 0) << gob_last_error();
      static_cast<char*>(address)[0] = 'x';
      ASSERT_EQ(gob_unmap(connection_, address), 0) << gob_last_error();
    }
  });
  for (int i = 0; i < 30; ++i) {
    EXPECT_EQ(status_of_child([&] { return gob_trylock(connection_, "l") == -EINVAL ? 0 : 1; }), 0);
  }
  stop = true;
  mapper.join();
}

}  // namespace
}  // namespace gob::test
