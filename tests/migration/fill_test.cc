// A source goes on when its target is killed while it holds a lock that both use.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "libgob/migration/page_store.h"
#include "tests/system/nodes.h"

namespace gob::migration {
namespace {

constexpr std::uint64_t kPages = 4 * kFillPages + kEarlyPages;

DaemonConfig settings() {
  DaemonConfig config;
  config.cluster = "fill";
  config.budget_bytes = std::uint64_t{64} << 20;
  return config;
}

// As if this program were the one that moves: fills containers with memory of its own.
bool hand_over(const gobelins::Connection& gob, const std::function<void()>& meanwhile) {
  void* const memory = ::mmap(nullptr, kPages * kPageSize, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  const auto store = SourceStore::create(gob, "s", kPages);
  if (!store) return false;
  LazyTask task;
  task.pid = 1;
  task.runs = {{reinterpret_cast<std::uint64_t>(memory), kPages}};
  Memory all;
  if (!(*store)->assign({task}, {::getpid()}, all)) return false;
  Status filled;
  std::thread filler([&] { filled = (*store)->fill(); });
  meanwhile();
  (*store)->set_pace(SourceStore::Pace::kAll);
  filler.join();
  return filled.ok();
}

TEST(Fill, GoesOnWhenTheTargetDiesWithTheLock) {
  Nodes nodes(2, settings());
  int held[2];
  int died[2];
  ASSERT_EQ(::pipe(held), 0);
  ASSERT_EQ(::pipe(died), 0);
  const pid_t source = nodes.spawn(0, [&](gobelins::Connection& gob) {
    return hand_over(gob, [&] {
      char c = 0;
      EXPECT_EQ(::read(died[0], &c, 1), 1);
    });
  });
  const pid_t target = nodes.spawn(1, [&](gobelins::Connection& gob) {
    gob.mutex("s.fill").lock();
    EXPECT_EQ(::write(held[1], "x", 1), 1);
    ::pause();
    return true;
  });
  char c = 0;
  ASSERT_EQ(::read(held[0], &c, 1), 1);
  ::kill(target, SIGKILL);
  EXPECT_EQ(Nodes::wait_for(target, 20'000), 128 + SIGKILL);
  ASSERT_EQ(::write(died[1], "x", 1), 1);
  EXPECT_EQ(Nodes::wait_for(source, 60'000), 0);
}

}  // namespace
}  // namespace gob::migration
