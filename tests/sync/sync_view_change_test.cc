#include <gtest/gtest.h>

#include <algorithm>

#include "tests/sync/sync_cluster.h"

namespace gob::test {
namespace {

constexpr std::size_t kNames = 12;  // enough that every node is home of some

std::string name(std::size_t i) { return "n" + std::to_string(i); }

bool granted(std::optional<SyncResult> result) {
  return result == SyncResult::kOk || result == SyncResult::kOkLast;
}

class SyncViewChangeTest : public ::testing::Test {
 protected:
  SyncViewChangeTest() { change(1, {0, 1, 2}); }
  void change(std::uint64_t epoch, const std::vector<std::size_t>& members,
              const std::vector<std::size_t>& departing = {}) {
    cluster.install_all(SyncCluster::view(epoch, members, departing));
    cluster.deliver_all();
  }

  SyncCluster cluster{4};
};

TEST_F(SyncViewChangeTest, LocksAndQueuesSurviveANewMember) {
  std::vector<std::uint64_t> waiting;
  for (std::size_t i = 0; i < kNames; ++i) {
    cluster.lock(0, 1, name(i));
    cluster.deliver_all();
    waiting.push_back(cluster.lock(1, 1, name(i)));
  }
  cluster.deliver_all();
  change(2, {0, 1, 2, 3});
  for (std::size_t i = 0; i < kNames; ++i) {
    EXPECT_EQ(cluster.result(1, waiting[i]), std::nullopt);
    EXPECT_EQ(cluster.result(0, cluster.unlock(0, 1, name(i))), SyncResult::kOk);
    cluster.deliver_all();
    EXPECT_EQ(cluster.result(1, waiting[i]), SyncResult::kOk);
  }
}

TEST_F(SyncViewChangeTest, LockOfADeadNodeGoesOnWithANoteWhereverItsHomeWas) {
  std::vector<std::uint64_t> waiting;
  for (std::size_t i = 0; i < kNames; ++i) {
    cluster.lock(2, 1, name(i));
    cluster.deliver_all();
    waiting.push_back(cluster.lock(1, 1, name(i)));
  }
  cluster.deliver_all();
  cluster.kill(2);
  change(2, {0, 1});
  for (const auto request : waiting)
    EXPECT_EQ(cluster.result(1, request), SyncResult::kOkOwnerDied);
}

TEST_F(SyncViewChangeTest, LocksHeldByTheLivingStayHeldWhenTheirHomeDies) {
  std::vector<std::uint64_t> waiting;
  for (std::size_t i = 0; i < kNames; ++i) {
    cluster.lock(0, 1, name(i));
    cluster.deliver_all();
    waiting.push_back(cluster.lock(1, 1, name(i)));
  }
  cluster.deliver_all();
  cluster.kill(2);
  change(2, {0, 1});
  for (std::size_t i = 0; i < kNames; ++i) {
    EXPECT_EQ(cluster.result(1, waiting[i]), std::nullopt);
    cluster.unlock(0, 1, name(i));
    cluster.deliver_all();
    EXPECT_EQ(cluster.result(1, waiting[i]), SyncResult::kOk);  // nobody who held it died
  }
}

TEST_F(SyncViewChangeTest, DeathOfAClientSurvivesAViewChange) {
  std::vector<std::uint64_t> waiting;
  for (std::size_t i = 0; i < kNames; ++i) {
    cluster.lock(0, 1, name(i));
    cluster.deliver_all();
    waiting.push_back(cluster.lock(1, 1, name(i)));
  }
  cluster.deliver_all();
  cluster.gone(0, 1);  // what it sends to the old homes comes too late
  change(2, {0, 1, 2, 3});
  for (const auto request : waiting)
    EXPECT_EQ(cluster.result(1, request), SyncResult::kOkOwnerDied);
}

TEST_F(SyncViewChangeTest, BarriersGoOnWhenAMemberJoins) {
  std::vector<std::uint64_t> waiting;
  for (std::size_t i = 0; i < kNames; ++i) waiting.push_back(cluster.barrier(0, 1, name(i), 2));
  cluster.deliver_all();
  change(2, {0, 1, 2, 3});
  for (std::size_t i = 0; i < kNames; ++i) {
    EXPECT_EQ(cluster.result(0, waiting[i]), std::nullopt);
    cluster.barrier(3, 1, name(i), 2);
    cluster.deliver_all();
    EXPECT_EQ(cluster.result(0, waiting[i]), SyncResult::kOk);
  }
}

TEST_F(SyncViewChangeTest, BarrierThatOpenedForSomeOpensForAllAcrossAViewChange) {
  for (std::size_t i = 0; i < kNames; ++i) {
    std::vector<std::uint64_t> round;
    for (const std::size_t n : {0u, 1u, 2u}) round.push_back(cluster.barrier(n, 1, name(i), 3));
    // Requests reach the home, its answers are still on their way.
    std::size_t answered = 0;
    while (answered == 0) {
      for (const std::size_t a : {0u, 1u, 2u, 3u})
        for (const std::size_t b : {0u, 1u, 2u, 3u}) cluster.deliver(a, b);
      for (const std::size_t n : {0u, 1u, 2u}) answered += cluster.result(n, round[n]) ? 1 : 0;
    }
    if (i % 2 == 0)
      change(2 + i, {0, 1, 2, 3});
    else
      change(2 + i, {0, 1, 2}, {3});
    for (const std::size_t n : {0u, 1u, 2u})
      EXPECT_EQ(granted(cluster.result(n, round[n])), true) << i;
  }
  EXPECT_EQ(cluster.objects(), 0u);
}

TEST_F(SyncViewChangeTest, BarriersBreakWhenAMemberDiesThatMayHaveBeenToCome) {
  const auto first = cluster.barrier(0, 1, "first", 3);
  for (const std::size_t i : {0u, 1u}) cluster.barrier(i, 2, "survivors", 2);
  for (const std::size_t i : {0u, 2u}) cluster.barrier(i, 3, "with the dead", 2);
  cluster.deliver_all();
  const auto survivors = cluster.barrier(0, 2, "survivors", 2);
  const auto with_dead = cluster.barrier(0, 3, "with the dead", 2);
  cluster.deliver_all();
  cluster.kill(2);
  change(2, {0, 1});
  EXPECT_EQ(cluster.result(0, first), SyncResult::kBroken);
  EXPECT_EQ(cluster.result(0, with_dead), SyncResult::kBroken);
  EXPECT_EQ(cluster.result(0, survivors), std::nullopt);
  cluster.barrier(1, 2, "survivors", 2);
  cluster.deliver_all();
  EXPECT_EQ(cluster.result(0, survivors), SyncResult::kOk);
}

TEST_F(SyncViewChangeTest, WhoComesToABarrierAfterTheDeathIsToldToo) {
  for (const std::size_t i : {0u, 2u}) cluster.barrier(i, 1, "b", 2);
  cluster.deliver_all();
  cluster.kill(2);
  change(2, {0, 1});
  EXPECT_EQ(cluster.result(0, cluster.barrier(0, 1, "b", 2)), SyncResult::kBroken);
  // Afterwards it can be used with others.
  const auto again = cluster.barrier(0, 1, "b", 2);
  cluster.barrier(1, 1, "b", 2);
  cluster.deliver_all();
  EXPECT_TRUE(granted(cluster.result(0, again)));
}

TEST_F(SyncViewChangeTest, ConditionWaitersWakeRatherThanMissASignal) {
  cluster.lock(0, 1, "l");
  cluster.deliver_all();
  const auto waits = cluster.wait(0, 1, "c", "l");
  cluster.deliver_all();
  const auto holder = cluster.lock(1, 1, "l");
  cluster.deliver_all();
  cluster.notify(1, 1, "c", "l", false);
  change(2, {0, 1, 2, 3});
  EXPECT_EQ(cluster.result(1, holder), SyncResult::kOk);
  EXPECT_EQ(cluster.result(0, waits), std::nullopt);
  cluster.unlock(1, 1, "l");
  cluster.deliver_all();
  EXPECT_EQ(cluster.result(0, waits), SyncResult::kOk);
  EXPECT_EQ(cluster.result(0, cluster.unlock(0, 1, "l")), SyncResult::kOk);
}

TEST_F(SyncViewChangeTest, DeadlinesHoldAcrossAViewChange) {
  cluster.lock(1, 1, "l");
  cluster.deliver_all();
  const auto late = cluster.lock(0, 1, "l", 100);
  const auto barrier = cluster.barrier(0, 2, "b", 2, 100);
  cluster.deliver_all();
  cluster.tick(0, 100);  // the cancellation goes to a home that is none any more
  cluster.install_all(SyncCluster::view(2, {0, 1, 2, 3}));
  cluster.deliver_all();
  EXPECT_EQ(cluster.result(0, late), SyncResult::kTimedOut);
  EXPECT_EQ(cluster.result(0, barrier), SyncResult::kTimedOut);
  EXPECT_EQ(cluster.services[0].outstanding(), 0u);
}

TEST_F(SyncViewChangeTest, ADepartingHomeHandsOnWhatItKnows) {
  std::vector<std::uint64_t> round;
  for (std::size_t i = 0; i < kNames; ++i) {
    cluster.lock(0, 1 + i, name(i));
    cluster.deliver_all();
    cluster.gone(0, 1 + i);
    round.push_back(cluster.barrier(0, 100, "b" + name(i), 2));
  }
  cluster.deliver_all();
  change(2, {0, 1}, {2});
  for (std::size_t i = 0; i < kNames; ++i) {
    const auto next = cluster.lock(1, 1, name(i));
    cluster.barrier(1, 1, "b" + name(i), 2);
    cluster.deliver_all();
    EXPECT_EQ(cluster.result(1, next), SyncResult::kOkOwnerDied);
    EXPECT_EQ(cluster.result(0, round[i]), SyncResult::kOk);
  }
}

TEST_F(SyncViewChangeTest, ADepartingNodeThatDiesIsNotWaitedFor) {
  const auto waiting = cluster.barrier(0, 1, "b", 2);
  cluster.deliver_all();
  cluster.kill(2, true);
  cluster.install(0, SyncCluster::view(2, {0, 1}, {2}));
  cluster.install(1, SyncCluster::view(2, {0, 1}, {2}));
  cluster.deliver_all();
  for (const std::size_t i : {0u, 1u}) {
    SyncService::Out out;
    cluster.services[i].peer_down(NodeId{2}, out);
    cluster.perform(i, out);
  }
  cluster.barrier(1, 1, "b", 2);
  cluster.deliver_all();
  EXPECT_TRUE(granted(cluster.result(0, waiting)));
}

TEST_F(SyncViewChangeTest, ANodeThatIsOutAnswersEverything) {
  const auto waits = cluster.barrier(2, 1, "b", 2);
  cluster.deliver_all();
  change(2, {0, 1}, {2});
  EXPECT_EQ(cluster.result(2, waits), SyncResult::kBroken);
  EXPECT_EQ(cluster.services[2].outstanding(), 0u);
}

}  // namespace
}  // namespace gob::test
