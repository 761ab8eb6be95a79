// Two real gobd and programs that share memory: small enough to run under the sanitizers, too.
#include <gtest/gtest.h>

#include "tests/system/nodes.h"

namespace gob {
namespace {

DaemonConfig small() {
  DaemonConfig config;
  config.cluster = "small";
  config.budget_bytes = std::uint64_t{64} << 20;
  return config;
}

TEST(TwoNodes, SeeEachOthersWritesAcrossBarriers) {
  constexpr std::size_t kWords = 64 * 512;  // 64 pages
  Nodes nodes(2, small());
  EXPECT_TRUE(nodes.run_on_all([](gobelins::Connection& gob, unsigned rank) {
    if (rank == 0) gob.create("array", kWords * sizeof(std::uint64_t));
    gob.barrier("made", 2);
    auto memory = gob.open("array").map();
    auto words = memory.as<std::uint64_t>();
    for (std::uint64_t round = 1; round <= 3; ++round) {
      for (std::size_t i = rank; i < kWords; i += 2) words[i] = round * kWords + i;
      gob.barrier("written", 2);
      for (std::size_t i = 0; i < kWords; ++i)
        if (words[i] != round * kWords + i) return false;
      gob.barrier("read", 2);
    }
    return true;
  }));
}

TEST(TwoNodes, CountTogetherUnderALock) {
  constexpr std::uint64_t kEach = 50;
  Nodes nodes(2, small());
  EXPECT_TRUE(nodes.run_on_all([](gobelins::Connection& gob, unsigned rank) {
    if (rank == 0) gob.create("counter", 4096);
    gob.barrier("made", 2);
    auto memory = gob.open("counter").map();
    volatile std::uint64_t& counter = memory.as<std::uint64_t>()[0];
    auto mutex = gob.mutex("lock");
    for (std::uint64_t i = 0; i < kEach; ++i) {
      mutex.lock();
      counter = counter + 1;
      mutex.unlock();
    }
    gob.barrier("counted", 2);
    return counter == 2 * kEach;
  }));
}

}  // namespace
}  // namespace gob
