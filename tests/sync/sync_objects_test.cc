#include <gtest/gtest.h>

#include "libgob/sync/sync_service.h"
#include "tests/sync/sync_cluster.h"

namespace gob::test {
namespace {

using Results = std::vector<std::optional<SyncResult>>;

class SyncObjectsTest : public ::testing::Test {
 protected:
  SyncObjectsTest() {
    cluster.install_all(SyncCluster::view(1, {0, 1, 2}));
    cluster.deliver_all();
  }
  // A name whose home in view {0, 1, 2} is `node`.
  std::string name_at_home(std::size_t node) {
    for (int i = 0;; ++i) {
      const std::string name = "n" + std::to_string(i);
      SyncCluster fresh(3);
      fresh.install_all(SyncCluster::view(1, {0, 1, 2}));
      fresh.deliver_all();
      fresh.lock(0, 1, name);
      fresh.deliver_all();
      if (fresh.services[node].objects_here() == 1) return name;
    }
  }

  SyncCluster cluster{3};
};

TEST_F(SyncObjectsTest, LockGoesRoundInTheOrderAsked) {
  const auto a = cluster.lock(0, 1, "l");
  cluster.deliver_all();
  const auto b = cluster.lock(1, 1, "l");
  cluster.deliver_all();
  const auto c = cluster.lock(2, 1, "l");
  cluster.deliver_all();
  EXPECT_EQ(cluster.result(0, a), SyncResult::kOk);
  EXPECT_EQ(cluster.result(1, b), std::nullopt);
  cluster.unlock(0, 1, "l");
  cluster.deliver_all();
  EXPECT_EQ(cluster.result(1, b), SyncResult::kOk);
  EXPECT_EQ(cluster.result(2, c), std::nullopt);
  cluster.unlock(1, 1, "l");
  cluster.deliver_all();
  EXPECT_EQ(cluster.result(2, c), SyncResult::kOk);
  cluster.unlock(2, 1, "l");
  cluster.deliver_all();
  EXPECT_EQ(cluster.objects(), 0u);
}

TEST_F(SyncObjectsTest, UnlockByAnotherThreadIsRefusedAndTheLockStays) {
  cluster.lock(0, 1, "l");
  cluster.deliver_all();
  EXPECT_EQ(cluster.result(1, cluster.unlock(1, 1, "l")), SyncResult::kNotHeld);
  const auto other_thread = cluster.ask(0, {SyncKind::kUnlock, 1, 7, "l", {}, 0, {}});
  EXPECT_EQ(cluster.result(0, other_thread), SyncResult::kNotHeld);
  const auto again = cluster.lock(0, 1, "l");
  EXPECT_EQ(cluster.result(0, again), SyncResult::kDeadlock);
  const auto other = cluster.ask(1, {SyncKind::kTryLock, 1, 0, "l", {}, 0, {}});
  cluster.deliver_all();
  EXPECT_EQ(cluster.result(1, other), SyncResult::kBusy);
}

TEST_F(SyncObjectsTest, LockOfADeadClientGoesOnWithANote) {
  cluster.lock(0, 1, "l");
  cluster.deliver_all();
  const auto waiting = cluster.lock(1, 1, "l");
  cluster.deliver_all();
  cluster.gone(0, 1);
  cluster.deliver_all();
  EXPECT_EQ(cluster.result(1, waiting), SyncResult::kOkOwnerDied);
  cluster.unlock(1, 1, "l");
  const auto next = cluster.lock(2, 1, "l");
  cluster.deliver_all();
  EXPECT_EQ(cluster.result(2, next), SyncResult::kOk);  // told once
}

TEST_F(SyncObjectsTest, DeathIsRememberedForTheNextHolderButNotWithoutBound) {
  for (int i = 0; i < 5000; ++i) cluster.lock(0, 1 + i / 1000, "l" + std::to_string(i));
  cluster.deliver_all();
  for (int client = 1; client <= 5; ++client) cluster.gone(0, client);
  cluster.deliver_all();
  EXPECT_GT(cluster.objects(), 1000u);
  EXPECT_EQ(cluster.services[0].outstanding(), 0u);
  const auto next = cluster.lock(2, 1, "l4999");
  cluster.deliver_all();
  EXPECT_EQ(cluster.result(2, next), SyncResult::kOkOwnerDied);
  for (int i = 0; i < 20000; ++i) {
    cluster.lock(0, 100 + i, "m" + std::to_string(i));
    cluster.deliver_all();
    cluster.gone(0, 100 + i);
    cluster.deliver_all();
  }
  EXPECT_LT(cluster.objects(), 3 * 4096u + 2);
}

TEST_F(SyncObjectsTest, LateLockRequestTimesOutAndLeavesTheQueue) {
  cluster.lock(0, 1, "l");
  cluster.deliver_all();
  const auto late = cluster.lock(1, 1, "l", 100);
  const auto patient = cluster.lock(2, 1, "l");
  cluster.deliver_all();
  EXPECT_EQ(cluster.services[1].next_deadline_ms(), 100u);
  cluster.tick(1, 99);
  cluster.deliver_all();
  EXPECT_EQ(cluster.result(1, late), std::nullopt);
  cluster.tick(1, 100);
  cluster.deliver_all();
  EXPECT_EQ(cluster.result(1, late), SyncResult::kTimedOut);
  EXPECT_EQ(cluster.services[1].next_deadline_ms(), std::nullopt);
  cluster.unlock(0, 1, "l");
  cluster.deliver_all();
  EXPECT_EQ(cluster.result(2, patient), SyncResult::kOk);
}

TEST_F(SyncObjectsTest, BarrierOpensForAllAtTheLastArrivalAgainAndAgain) {
  for (int round = 0; round < 3; ++round) {
    const auto a = cluster.barrier(0, 1, "b", 3);
    const auto b = cluster.barrier(1, 1, "b", 3);
    cluster.deliver_all();
    EXPECT_EQ(cluster.result(0, a), std::nullopt);
    const auto c = cluster.barrier(2, 1, "b", 3);
    cluster.deliver_all();
    const Results results{cluster.result(0, a), cluster.result(1, b), cluster.result(2, c)};
    EXPECT_EQ(std::ranges::count(results, SyncResult::kOkLast), 1);
    EXPECT_EQ(std::ranges::count(results, SyncResult::kOk), 2);
    EXPECT_EQ(cluster.objects(), 0u);
  }
}

TEST_F(SyncObjectsTest, BarrierCostsOneMessageToTheHomeAndOneBack) {
  const std::size_t before = cluster.sent;
  for (const std::size_t i : {0u, 1u, 2u}) cluster.barrier(i, 1, "b", 3);
  cluster.deliver_all();
  EXPECT_EQ(cluster.sent - before, 4u);  // two nodes are away from the home
}

TEST_F(SyncObjectsTest, ABarrierWithAnotherCountIsRefusedToWhoComesSecond) {
  const auto a = cluster.barrier(0, 1, "b", 2);
  cluster.deliver_all();
  const auto wrong = cluster.barrier(1, 1, "b", 3);
  cluster.deliver_all();
  EXPECT_EQ(cluster.result(1, wrong), SyncResult::kMismatch);
  const auto right = cluster.barrier(1, 1, "b", 2);
  cluster.deliver_all();
  EXPECT_EQ(cluster.result(0, a), SyncResult::kOk);
  EXPECT_EQ(cluster.result(1, right), SyncResult::kOkLast);
}

TEST_F(SyncObjectsTest, BarrierBreaksWhenAWaitingClientDies) {
  const auto a = cluster.barrier(0, 1, "b", 3);
  cluster.barrier(1, 1, "b", 3);
  cluster.deliver_all();
  cluster.gone(1, 1);
  cluster.deliver_all();
  EXPECT_EQ(cluster.result(0, a), SyncResult::kBroken);
  EXPECT_EQ(cluster.objects(), 0u);
}

TEST_F(SyncObjectsTest, BarrierBreaksForThoseWhoMetAProgramThatIsGone) {
  for (const std::size_t i : {0u, 1u, 2u}) cluster.barrier(i, 1, "b", 3);
  cluster.deliver_all();
  const auto waits = cluster.barrier(0, 1, "b", 3);
  cluster.deliver_all();
  cluster.gone(2, 1);  // it computes when it dies
  cluster.deliver_all();
  EXPECT_EQ(cluster.result(0, waits), SyncResult::kBroken);
  const auto comes_later = cluster.barrier(1, 1, "b", 3);
  EXPECT_EQ(cluster.result(1, comes_later), SyncResult::kBroken);
}

TEST_F(SyncObjectsTest, ANewJobMayUseTheBarrierOfOneThatEnds) {
  for (const std::size_t i : {0u, 1u}) cluster.barrier(i, 1, "b", 2);
  cluster.deliver_all();
  const auto fresh = cluster.barrier(0, 2, "b", 2);  // another program
  cluster.gone(0, 1);
  cluster.gone(1, 1);
  cluster.deliver_all();
  EXPECT_EQ(cluster.result(0, fresh), std::nullopt);
  const auto partner = cluster.barrier(1, 2, "b", 2);
  cluster.deliver_all();
  EXPECT_EQ(cluster.result(0, fresh), SyncResult::kOk);
  EXPECT_EQ(cluster.result(1, partner), SyncResult::kOkLast);
}

TEST_F(SyncObjectsTest, LateArrivalIsWithdrawnFromTheBarrier) {
  const auto late = cluster.barrier(0, 1, "b", 2, 10);
  cluster.deliver_all();
  cluster.tick(0, 10);
  cluster.deliver_all();
  EXPECT_EQ(cluster.result(0, late), SyncResult::kTimedOut);
  const auto a = cluster.barrier(1, 1, "b", 2);
  cluster.deliver_all();
  EXPECT_EQ(cluster.result(1, a), std::nullopt);
  const auto again = cluster.barrier(0, 1, "b", 2);
  cluster.deliver_all();
  EXPECT_EQ(cluster.result(1, a), SyncResult::kOk);
  EXPECT_EQ(cluster.result(0, again), SyncResult::kOkLast);
}

TEST_F(SyncObjectsTest, ConditionWaitReleasesAndHoldsTheLockAgain) {
  cluster.lock(0, 1, "l");
  cluster.deliver_all();
  const auto waits = cluster.wait(0, 1, "c", "l");
  const auto other = cluster.lock(1, 1, "l");
  cluster.deliver_all();
  EXPECT_EQ(cluster.result(1, other), SyncResult::kOk);
  const auto signal = cluster.notify(1, 1, "c", "l", false);
  cluster.deliver_all();
  EXPECT_EQ(cluster.result(1, signal), SyncResult::kOk);
  EXPECT_EQ(cluster.result(0, waits), std::nullopt);  // the lock is held
  cluster.unlock(1, 1, "l");
  cluster.deliver_all();
  EXPECT_EQ(cluster.result(0, waits), SyncResult::kOk);
  EXPECT_EQ(cluster.result(0, cluster.unlock(0, 1, "l")), SyncResult::kOk);
  cluster.deliver_all();
  EXPECT_EQ(cluster.objects(), 0u);
}

TEST_F(SyncObjectsTest, SignalWakesOneAndBroadcastAllOfThatCondition) {
  std::vector<std::uint64_t> waits;
  for (const std::size_t i : {0u, 1u, 2u}) {
    cluster.lock(i, 1, "l");
    cluster.deliver_all();
    waits.push_back(cluster.wait(i, 1, i == 2 ? "other" : "c", "l"));
    cluster.deliver_all();
  }
  cluster.notify(2, 9, "c", "l", false);
  cluster.deliver_all();
  EXPECT_EQ(cluster.result(0, waits[0]), SyncResult::kOk);
  EXPECT_EQ(cluster.result(1, waits[1]), std::nullopt);
  cluster.unlock(0, 1, "l");
  cluster.notify(2, 9, "c", "l", true);
  cluster.deliver_all();
  EXPECT_EQ(cluster.result(1, waits[1]), SyncResult::kOk);
  EXPECT_EQ(cluster.result(2, waits[2]), std::nullopt);
}

TEST_F(SyncObjectsTest, LateConditionWaitEndsWithTheLockHeld) {
  cluster.lock(0, 1, "l");
  cluster.deliver_all();
  const auto waits = cluster.wait(0, 1, "c", "l", 50);
  const auto other = cluster.lock(1, 1, "l");
  cluster.deliver_all();
  cluster.tick(0, 50);
  cluster.deliver_all();
  EXPECT_EQ(cluster.result(0, waits), std::nullopt);
  cluster.unlock(1, 1, "l");
  cluster.deliver_all();
  EXPECT_EQ(cluster.result(1, other), SyncResult::kOk);
  EXPECT_EQ(cluster.result(0, waits), SyncResult::kTimedOut);
  EXPECT_EQ(cluster.result(0, cluster.unlock(0, 1, "l")), SyncResult::kOk);
}

TEST_F(SyncObjectsTest, ConditionWaitNeedsTheLock) {
  EXPECT_EQ(cluster.result(0, cluster.wait(0, 1, "c", "l")), SyncResult::kNotHeld);
}

TEST_F(SyncObjectsTest, RequestsWaitForTheFirstView) {
  SyncCluster fresh(1);
  const auto early = fresh.lock(0, 1, "l");
  const auto late = fresh.lock(0, 2, "m", 5);
  EXPECT_EQ(fresh.result(0, early), std::nullopt);
  fresh.tick(0, 5);
  EXPECT_EQ(fresh.result(0, late), SyncResult::kTimedOut);
  fresh.install_all(SyncCluster::view(1, {0}));
  EXPECT_EQ(fresh.result(0, early), SyncResult::kOk);
}

}  // namespace
}  // namespace gob::test
