#include "libgob/sync/sync_service.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/sync/sync_world.h"

namespace gob {
namespace {

TEST(Barrier, OpensForAllWhenTheLastArrives) {
  SyncWorld world(3);
  const auto a = world.barrier(0, 1, "b", 3);
  const auto b = world.barrier(1, 1, "b", 3);
  world.settle();
  EXPECT_FALSE(world.answer(0, a));
  const auto c = world.barrier(2, 1, "b", 3);
  world.settle();
  EXPECT_EQ(world.answer(0, a), SyncResult::kOk);
  EXPECT_EQ(world.answer(1, b), SyncResult::kOk);
  EXPECT_EQ(world.answer(2, c), SyncResult::kOkLast);
}

TEST(Barrier, LeavesNothingBehindAfterARound) {
  SyncWorld world(2);
  for (int round = 0; round < 100; ++round) {
    world.barrier(0, 1, "b", 2);
    world.barrier(1, 1, "b", 2);
    world.settle();
  }
  EXPECT_EQ(world.at(0).objects_here() + world.at(1).objects_here(), 0u);
  EXPECT_EQ(world.at(0).outstanding() + world.at(1).outstanding(), 0u);
}

TEST(Barrier, AnotherCountIsAnErrorForTheOneWhoBringsIt) {
  SyncWorld world(2);
  const auto first = world.barrier(0, 1, "b", 2);
  world.settle();
  const auto odd = world.barrier(1, 1, "b", 3);
  world.settle();
  EXPECT_EQ(world.answer(1, odd), SyncResult::kMismatch);
  EXPECT_FALSE(world.answer(0, first));
}

TEST(Barrier, BreaksWhenAParticipantsNodeDies) {
  SyncWorld world(3);
  for (unsigned node = 0; node < 3; ++node) world.barrier(node, 1, "b", 3);
  world.settle();
  const auto a = world.barrier(0, 1, "b", 3);
  const auto b = world.barrier(1, 1, "b", 3);
  world.settle();
  world.crash(2);
  world.settle();
  EXPECT_EQ(world.answer(0, a), SyncResult::kBroken);
  EXPECT_EQ(world.answer(1, b), SyncResult::kBroken);
}

TEST(Barrier, OfOtherNodesOutlivesACrash) {
  SyncWorld world(3);
  for (int round = 0; round < 2; ++round) {
    const auto a = world.barrier(0, 1, "b", 2);
    if (round == 1) {
      world.settle();
      world.crash(2);
      world.settle();
    }
    const auto b = world.barrier(1, 1, "b", 2);
    world.settle();
    EXPECT_EQ(world.answer(0, a), SyncResult::kOk) << "round " << round;
    EXPECT_EQ(world.answer(1, b), SyncResult::kOkLast) << "round " << round;
  }
}

TEST(Barrier, BreaksWhenAParticipantsProgramDies) {
  SyncWorld world(2);
  world.barrier(0, 1, "b", 2);
  world.barrier(1, 7, "b", 2);
  world.settle();
  const auto waiting = world.barrier(0, 1, "b", 2);
  world.settle();
  world.client_gone(1, 7);
  world.settle();
  EXPECT_EQ(world.answer(0, waiting), SyncResult::kBroken);
}

TEST(Barrier, TimesOutAndForgetsTheArrival) {
  SyncWorld world(2);
  const auto late = world.ask(0, {SyncKind::kBarrier, 1, 0, "b", "", 2, std::uint64_t{100}});
  world.settle();
  world.tick(0, 99);
  world.settle();
  EXPECT_FALSE(world.answer(0, late));
  world.tick(0, 100);
  world.settle();
  EXPECT_EQ(world.answer(0, late), SyncResult::kTimedOut);
  const auto next = world.barrier(1, 1, "b", 2);
  world.settle();
  EXPECT_FALSE(world.answer(1, next)) << "the arrival that timed out must not count";
}

TEST(Lock, GoesToWaitersInOrder) {
  SyncWorld world(2);
  const auto a = world.lock(0, 1, "m");
  world.settle();
  const auto b = world.lock(1, 1, "m");
  world.settle();
  const auto c = world.lock(0, 2, "m");
  world.settle();
  EXPECT_EQ(world.answer(0, a), SyncResult::kOk);
  EXPECT_FALSE(world.answer(1, b));
  world.unlock(0, 1, "m");
  world.settle();
  EXPECT_EQ(world.answer(1, b), SyncResult::kOk);
  EXPECT_FALSE(world.answer(0, c));
}

TEST(Lock, OnlyItsHolderUnlocks) {
  SyncWorld world(2);
  world.lock(0, 1, "m");
  world.settle();
  const auto wrong = world.unlock(1, 1, "m");
  world.settle();
  EXPECT_EQ(world.answer(1, wrong), SyncResult::kNotHeld);
}

TEST(Lock, OfADeadProgramGoesOnWithAWarning) {
  SyncWorld world(2);
  world.lock(0, 1, "m");
  world.settle();
  const auto next = world.lock(1, 1, "m");
  world.settle();
  world.client_gone(0, 1);
  world.settle();
  EXPECT_EQ(world.answer(1, next), SyncResult::kOkOwnerDied);
}

TEST(Lock, OfADeadNodeGoesOnWithAWarning) {
  for (unsigned dead = 0; dead < 3; ++dead) {
    SyncWorld world(3);
    // A name whose home is not the node that dies: two losses at once are another matter.
    for (const std::string name : {"a", "b", "c", "d", "e", "f"}) {
      world.lock(dead, 1, name);
      world.settle();
    }
    const unsigned other = (dead + 1) % 3;
    world.crash(dead);
    world.settle();
    unsigned warned = 0;
    for (const std::string name : {"a", "b", "c", "d", "e", "f"}) {
      const auto request = world.lock(other, 1, name);
      world.settle();
      ASSERT_TRUE(world.answer(other, request));
      if (*world.answer(other, request) == SyncResult::kOkOwnerDied) ++warned;
    }
    EXPECT_GE(warned, 1u);
  }
}

TEST(Lock, OfASurvivorStaysItsOwnThroughACrash) {
  SyncWorld world(3);
  world.lock(0, 1, "m");
  world.settle();
  const auto waiting = world.lock(1, 1, "m");
  world.settle();
  world.crash(2);
  world.settle();
  EXPECT_FALSE(world.answer(1, waiting));
  world.unlock(0, 1, "m");
  world.settle();
  EXPECT_EQ(world.answer(1, waiting), SyncResult::kOk);
}

TEST(Condition, WaitReleasesTheLockAndComesBackWithIt) {
  SyncWorld world(2);
  world.lock(0, 1, "m");
  world.settle();
  const auto wait = world.ask(0, {SyncKind::kCondWait, 1, 1, "c", "m", 0, std::nullopt});
  world.settle();
  const auto other = world.lock(1, 1, "m");
  world.settle();
  EXPECT_EQ(world.answer(1, other), SyncResult::kOk);
  world.ask(1, {SyncKind::kCondSignal, 1, 1, "c", "m", 0, std::nullopt});
  world.settle();
  EXPECT_FALSE(world.answer(0, wait)) << "the lock is held";
  world.unlock(1, 1, "m");
  world.settle();
  EXPECT_EQ(world.answer(0, wait), SyncResult::kOk);
}

TEST(Condition, TimesOutWithTheLockHeld) {
  SyncWorld world(2);
  world.lock(0, 1, "m");
  world.settle();
  const auto wait = world.ask(0, {SyncKind::kCondWait, 1, 1, "c", "m", 0, std::uint64_t{5}});
  world.settle();
  world.tick(0, 5);
  world.settle();
  EXPECT_EQ(world.answer(0, wait), SyncResult::kTimedOut);
  const auto other = world.ask(1, {SyncKind::kTryLock, 1, 1, "m", "", 0, std::nullopt});
  world.settle();
  EXPECT_EQ(world.answer(1, other), SyncResult::kBusy);
}

TEST(Condition, WaiterIsWokenWhenTheViewChanges) {
  SyncWorld world(3);
  world.lock(0, 1, "m");
  world.settle();
  const auto wait = world.ask(0, {SyncKind::kCondWait, 1, 1, "c", "m", 0, std::nullopt});
  world.settle();
  world.crash(2);
  world.settle();
  ASSERT_TRUE(world.answer(0, wait)) << "a wake-up too many is allowed";
  // If the lock's home died, nobody can say whether its holder died with it.
  EXPECT_TRUE(*world.answer(0, wait) == SyncResult::kOk ||
              *world.answer(0, wait) == SyncResult::kOkOwnerDied);
}

// Random programs, interleavings, deaths of programs and of one node: mutual exclusion holds, and
// when everybody lets go nobody is left waiting.
TEST(Sync, EveryRequestEndsWhateverDies) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    std::mt19937_64 random(seed);
    SyncWorld world(4);
    struct Party {
      unsigned node;
      std::uint64_t client;
      bool alive = true;
      bool holds = false;
      std::optional<std::uint64_t> asked;
    };
    std::vector<Party> parties;
    for (unsigned node = 0; node < 4; ++node)
      for (std::uint64_t client = 1; client <= 2; ++client)
        parties.push_back({node, client, true, false, std::nullopt});
    bool crashed = false;
    const auto look = [&] {
      unsigned holders = 0;
      for (Party& party : parties) {
        if (!party.alive) continue;
        if (party.asked && world.answer(party.node, *party.asked)) {
          const SyncResult result = *world.answer(party.node, *party.asked);
          party.asked.reset();
          if (result == SyncResult::kOk || result == SyncResult::kOkOwnerDied) party.holds = true;
        }
        holders += party.holds ? 1 : 0;
      }
      ASSERT_LE(holders, 1u) << "seed " << seed;
    };
    for (int i = 0; i < 400; ++i) {
      Party& party = parties[random() % parties.size()];
      switch (random() % 8) {
        case 0:
          if (party.alive && !party.asked && !party.holds)
            party.asked = world.lock(party.node, party.client, "m");
          break;
        case 1:
          if (party.alive && party.holds) {
            party.holds = false;
            world.unlock(party.node, party.client, "m");
          }
          break;
        case 2:
          if (party.alive && random() % 40 == 0) {
            party.alive = party.holds = false;
            world.client_gone(party.node, party.client);
          }
          break;
        case 3:
          if (!crashed && random() % 100 == 0) {
            crashed = true;
            const unsigned dead = static_cast<unsigned>(random() % 4);
            for (Party& each : parties)
              if (each.node == dead) each.alive = each.holds = false;
            world.crash(dead);
          }
          break;
        default:
          world.deliver_one(random());
      }
      look();
      if (testing::Test::HasFatalFailure()) return;
    }
    for (int round = 0; round < 20; ++round) {
      world.settle();
      look();
      for (Party& party : parties) {
        if (!party.alive || !party.holds) continue;
        party.holds = false;
        world.unlock(party.node, party.client, "m");
      }
    }
    for (const Party& party : parties)
      EXPECT_FALSE(party.alive && party.asked) << "seed " << seed << " node " << party.node;
  }
}

}  // namespace
}  // namespace gob
