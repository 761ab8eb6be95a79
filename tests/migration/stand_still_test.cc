// Processes that are brought to a stand while they fork and end.
#include "libgob/migration/stand_still.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <string>
#include <vector>

#include "libgob/migration/inspect.h"
#include "libgob/migration/proc.h"

namespace gob::migration {
namespace {

using namespace std::chrono_literals;

char state_of(pid_t pid) {
  std::ifstream file(proc(pid, "stat"));
  std::string line;
  std::getline(file, line);
  const std::size_t at = line.rfind(") ");
  return at == std::string::npos ? 'X' : line[at + 2];
}

// Has a child that ends at once, which takes it a while, and leaves a child of its own.
[[noreturn]] void beget() {
  constexpr std::size_t kBytes = 16 << 20;
  for (;;) {
    const pid_t child = ::fork();
    if (child == 0) {
      if (::fork() == 0) {
        ::usleep(20'000);
        ::_exit(0);
      }
      void* const much = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
      ::_exit(much == MAP_FAILED ? 1 : 0);
    }
    ::waitpid(child, nullptr, 0);
  }
}

TEST(StandStill, WhoBelongsToTheProcessNoMoreGoesOn) {
  // Whose parent has ended becomes a child of this one.
  ASSERT_EQ(::prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  const pid_t root = ::fork();
  if (root == 0) beget();
  const HeldLocks none;
  for (int round = 0; round < 60; ++round) {
    const auto standing =
        stand_still(root, 0ms, [&]() -> const HeldLocks& { return none; });
    ASSERT_TRUE(standing) << standing.error().message();
    const std::vector<pid_t> tree = tree_of(root);
    for (const pid_t pid : tree)
      EXPECT_NE(std::string("TZ").find(state_of(pid)), std::string::npos) << state_of(pid);
    for (const pid_t pid : tree_of(::getpid()))
      if (std::ranges::find(tree, pid) == tree.end()) {
        EXPECT_NE(state_of(pid), 'T') << round;
      }
    for (const pid_t pid : tree) ::kill(pid, SIGCONT);
    // At another moment of its round each time.
    ::usleep(static_cast<useconds_t>(round * 131 % 7000));
  }
  for (const pid_t pid : tree_of(::getpid()))
    if (pid != ::getpid()) ::kill(pid, SIGKILL);
  while (::waitpid(-1, nullptr, 0) > 0) continue;
}

}  // namespace
}  // namespace gob::migration
