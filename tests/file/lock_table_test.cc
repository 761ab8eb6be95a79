// Locks on one file, from owners on several nodes.
#include "libgob/file/lock_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>
#include <utility>
#include <vector>

namespace gob::file {
namespace {

constexpr std::uint64_t kEnd = ~std::uint64_t{0};
const LockOwner kA{NodeId{0}, 1, false};
const LockOwner kB{NodeId{1}, 1, false};
const LockOwner kFlockA{NodeId{0}, 1, true};

LockRange read_lock(std::uint64_t first, std::uint64_t last) {
  return {first, last, LockType::kRead, 7};
}
LockRange write_lock(std::uint64_t first, std::uint64_t last) {
  return {first, last, LockType::kWrite, 7};
}
LockRange unlock(std::uint64_t first, std::uint64_t last) {
  return {first, last, LockType::kUnlock, 0};
}

TEST(FileLocks, ReadersShareAndAWriterDoesNot) {
  LockTable table;
  EXPECT_TRUE(table.set(kA, read_lock(0, 9)));
  EXPECT_TRUE(table.set(kB, read_lock(5, 20)));
  EXPECT_FALSE(table.set(kB, write_lock(9, 9)));
  EXPECT_TRUE(table.set(kB, write_lock(10, 12)));
  EXPECT_EQ(table.conflict(kA, read_lock(0, kEnd)), write_lock(10, 12));
}

TEST(FileLocks, AnOwnerChangesItsOwnLocksAndPiecesStay) {
  LockTable table;
  EXPECT_TRUE(table.set(kA, write_lock(0, 99)));
  EXPECT_TRUE(table.set(kA, read_lock(40, 49)));
  EXPECT_EQ(table.held_by(kA),
            (std::vector<LockRange>{write_lock(0, 39), read_lock(40, 49), write_lock(50, 99)}));
  EXPECT_TRUE(table.set(kA, write_lock(40, 49)));
  EXPECT_EQ(table.held_by(kA), (std::vector<LockRange>{write_lock(0, 99)}));
  EXPECT_TRUE(table.set(kA, unlock(0, kEnd)));
  EXPECT_TRUE(table.empty());
}

TEST(FileLocks, TheTwoKindsDoNotMeet) {
  LockTable table;
  EXPECT_TRUE(table.set(kFlockA, write_lock(0, kEnd)));
  EXPECT_TRUE(table.set(kB, write_lock(0, kEnd)));
  EXPECT_FALSE(table.set({NodeId{1}, 1, true}, read_lock(0, kEnd)));
}

TEST(FileLocks, WaitersGetTheirTurnInOrderWhenTheLockIsFree) {
  LockTable table;
  EXPECT_TRUE(table.set(kA, write_lock(0, kEnd)));
  table.wait({kB, write_lock(0, 5), 11});
  table.wait({{NodeId{2}, 1, false}, read_lock(0, 5), 12});
  EXPECT_FALSE(table.take_grantable());
  table.drop(kA);
  EXPECT_EQ(table.take_grantable()->request, 11u);
  EXPECT_FALSE(table.take_grantable());
  EXPECT_TRUE(table.set(kB, unlock(0, kEnd)));
  EXPECT_EQ(table.take_grantable()->request, 12u);
}

TEST(FileLocks, ACancelledWaiterGetsNothing) {
  LockTable table;
  EXPECT_TRUE(table.set(kA, write_lock(0, kEnd)));
  table.wait({kB, write_lock(0, 5), 11});
  EXPECT_FALSE(table.cancel(NodeId{0}, 11));
  EXPECT_TRUE(table.cancel(NodeId{1}, 11));
  EXPECT_FALSE(table.cancel(NodeId{1}, 11));
  table.drop(kA);
  EXPECT_FALSE(table.take_grantable());
}

TEST(FileLocks, ADeadNodeHoldsAndAwaitsNothing) {
  LockTable table;
  EXPECT_TRUE(table.set(kA, write_lock(0, 9)));
  table.wait({kB, write_lock(0, 5), 11});
  table.drop_node(NodeId{1});
  table.drop_node(NodeId{0});
  EXPECT_TRUE(table.empty());
}

// The same owner's number on another node.
const LockOwner kMovedA{NodeId{1}, 77, false};

TEST(FileLocks, WhatIsOfferedIsHeldAtBothEndsAndByNobodyElse) {
  LockTable table;
  EXPECT_TRUE(table.set(kA, write_lock(0, 9)));
  EXPECT_TRUE(table.set(kA, read_lock(20, 29)));
  table.wait({kB, write_lock(0, 0), 11});
  ASSERT_TRUE(table.offer(kA, kMovedA.node));
  ASSERT_TRUE(table.join(kMovedA, write_lock(0, 9), kA));
  ASSERT_TRUE(table.join(kMovedA, read_lock(20, 29), kA));
  EXPECT_FALSE(table.set(kB, read_lock(0, 0)));
  EXPECT_FALSE(table.take_grantable());
  table.moved(kA, kMovedA.node);
  EXPECT_TRUE(table.held_by(kA).empty());
  EXPECT_EQ(table.held_by(kMovedA), (std::vector<LockRange>{write_lock(0, 9), read_lock(20, 29)}));
  EXPECT_FALSE(table.take_grantable());
  // Nothing of the old owner is in the way of the new one, nor ends it.
  EXPECT_TRUE(table.set(kMovedA, unlock(0, 9)));
  EXPECT_EQ(table.take_grantable()->request, 11u);
  EXPECT_FALSE(table.set(kMovedA, write_lock(0, 9)));
  table.drop(kA);
  table.drop(kB);
  table.drop(kMovedA);
  EXPECT_TRUE(table.empty());
}

TEST(FileLocks, OnlyWhatIsOfferedCanBeJoinedAndByOneOnly) {
  LockTable table;
  EXPECT_TRUE(table.set(kA, write_lock(10, 19)));
  EXPECT_FALSE(table.join(kMovedA, write_lock(10, 19), kA));
  EXPECT_FALSE(table.offer(kB, kMovedA.node));
  ASSERT_TRUE(table.offer(kA, kMovedA.node));
  EXPECT_FALSE(table.join({NodeId{2}, 77, false}, write_lock(10, 19), kA));
  EXPECT_FALSE(table.join({NodeId{1}, 77, true}, write_lock(10, 19), kA));
  EXPECT_FALSE(table.join(kMovedA, write_lock(10, 20), kA));
  EXPECT_FALSE(table.join(kMovedA, write_lock(9, 19), kA));
  EXPECT_FALSE(table.join(kMovedA, read_lock(10, 19), kA));
  ASSERT_TRUE(table.join(kMovedA, write_lock(10, 19), kA));
  EXPECT_FALSE(table.join(kB, write_lock(10, 19), kA));
}

TEST(FileLocks, AMoveThatFailsLeavesTheLockToTheFirstOwnerAlone) {
  LockTable table;
  EXPECT_TRUE(table.set(kA, write_lock(0, 9)));
  ASSERT_TRUE(table.offer(kA, kMovedA.node));
  ASSERT_TRUE(table.join(kMovedA, write_lock(0, 9), kA));
  table.keep(kA);
  EXPECT_TRUE(table.held_by(kMovedA).empty());
  EXPECT_FALSE(table.set(kB, read_lock(0, 0)));
  // The target comes too late.
  EXPECT_FALSE(table.join(kMovedA, write_lock(0, 9), kA));
  table.moved(kA, kMovedA.node);
  EXPECT_EQ(table.held_by(kA), (std::vector<LockRange>{write_lock(0, 9)}));
  EXPECT_TRUE(table.set(kA, unlock(0, 9)));
  EXPECT_TRUE(table.set(kA, write_lock(0, 9)));
}

TEST(FileLocks, ANewOfferEndsWhatAnEarlierOneLeft) {
  LockTable table;
  EXPECT_TRUE(table.set(kA, write_lock(0, 9)));
  ASSERT_TRUE(table.offer(kA, kMovedA.node));
  ASSERT_TRUE(table.join(kMovedA, write_lock(0, 9), kA));
  ASSERT_TRUE(table.offer(kA, NodeId{2}));
  EXPECT_TRUE(table.held_by(kMovedA).empty());
  EXPECT_FALSE(table.join(kMovedA, write_lock(0, 9), kA));
  EXPECT_TRUE(table.join({NodeId{2}, 5, false}, write_lock(0, 9), kA));
}

TEST(FileLocks, TheEndOfEitherEndLeavesTheOther) {
  for (const bool node : {false, true}) {
    for (const bool first : {false, true}) {
      LockTable table;
      EXPECT_TRUE(table.set(kA, write_lock(0, 9)));
      ASSERT_TRUE(table.offer(kA, kMovedA.node));
      ASSERT_TRUE(table.join(kMovedA, write_lock(0, 9), kA));
      const LockOwner gone = first ? kA : kMovedA;
      const LockOwner left = first ? kMovedA : kA;
      if (node)
        table.drop_node(gone.node);
      else
        table.drop(gone);
      EXPECT_TRUE(table.held_by(gone).empty());
      EXPECT_EQ(table.held_by(left), (std::vector<LockRange>{write_lock(0, 9)}));
      EXPECT_FALSE(table.set({NodeId{2}, 1, false}, read_lock(0, 0)));
      table.keep(kA);
      EXPECT_EQ(table.held_by(left), (std::vector<LockRange>{write_lock(0, 9)}));
      table.drop(left);
      EXPECT_TRUE(table.empty());
    }
  }
}

// Whatever is done in whatever order, two owners hold what excludes each other only if one has
// joined the other, and nothing is left when all have ended.
TEST(FileLocks, MovesAtAnyMomentNeverGiveALockToTwo) {
  constexpr std::uint64_t kBytes = 12;
  for (unsigned seed = 1; seed <= 300; ++seed) {
    std::mt19937 random(seed);
    LockTable table;
    std::vector<LockOwner> owners;
    for (std::uint16_t node = 0; node < 3; ++node)
      for (std::uint64_t owner = 1; owner <= 2; ++owner)
        owners.push_back({NodeId{node}, owner, false});
    std::vector<std::pair<LockOwner, LockOwner>> joined;
    const auto forget = [&](const LockOwner& who) {
      std::erase_if(joined,
                    [&](const auto& pair) { return pair.first == who || pair.second == who; });
    };
    const auto end_of_joiners = [&](const LockOwner& first) {
      for (const auto& pair : std::vector(joined)) {
        if (pair.second != first) continue;
        EXPECT_TRUE(table.held_by(pair.first).empty()) << "seed " << seed;
        forget(pair.first);
      }
    };
    for (int step = 0; step < 150; ++step) {
      const LockOwner& who = owners[random() % owners.size()];
      const LockOwner& other = owners[random() % owners.size()];
      const std::uint64_t first = random() % kBytes;
      const LockRange range{first, first + random() % (kBytes - first),
                            static_cast<LockType>(random() % 3), 0};
      switch (random() % 7) {
        case 0:
          table.set(who, range);
          break;
        case 1:
          table.offer(who, other.node);
          end_of_joiners(who);
          break;
        case 2:
          for (const LockRange& held : table.held_by(other))
            if (table.join(who, held, other)) joined.emplace_back(who, other);
          break;
        case 3:
          table.keep(who);
          end_of_joiners(who);
          break;
        case 4:
          table.moved(who, other.node);
          if (table.held_by(who).empty()) forget(who);
          break;
        case 5:
          table.drop(who);
          forget(who);
          break;
        case 6:
          table.drop_node(who.node);
          for (const LockOwner& each : owners)
            if (each.node == who.node) forget(each);
          break;
      }
      for (const LockOwner& a : owners)
        for (const LockOwner& b : owners) {
          if (a == b || std::ranges::count(joined, std::pair(a, b)) != 0 ||
              std::ranges::count(joined, std::pair(b, a)) != 0)
            continue;
          for (const LockRange& mine : table.held_by(a))
            for (const LockRange& theirs : table.held_by(b))
              ASSERT_TRUE(mine.last < theirs.first || theirs.last < mine.first ||
                          (mine.type == LockType::kRead && theirs.type == LockType::kRead))
                  << "seed " << seed << ", step " << step;
        }
    }
    for (const LockOwner& each : owners) table.drop(each);
    ASSERT_TRUE(table.empty()) << "seed " << seed;
  }
}

// Against the plainest model: the type that each owner holds on each byte.
TEST(FileLocks, AgreeWithAByteByByteModel) {
  constexpr std::size_t kBytes = 24;
  constexpr std::size_t kOwners = 3;
  for (unsigned seed = 1; seed <= 200; ++seed) {
    std::mt19937 random(seed);
    LockTable table;
    std::array<std::array<LockType, kBytes>, kOwners> model{};
    for (int step = 0; step < 100; ++step) {
      const std::size_t owner = random() % kOwners;
      const std::uint64_t first = random() % kBytes;
      const std::uint64_t last = first + random() % (kBytes - first);
      const auto type = static_cast<LockType>(random() % 3);
      bool allowed = true;
      for (std::size_t other = 0; other < kOwners; ++other)
        for (std::uint64_t at = first; at <= last; ++at) {
          if (other == owner || type == LockType::kUnlock) continue;
          const LockType held = model[other][at];
          if (held == LockType::kWrite || (held == LockType::kRead && type == LockType::kWrite))
            allowed = false;
        }
      const LockOwner who{NodeId{static_cast<std::uint16_t>(owner)}, 5, false};
      ASSERT_EQ(table.set(who, {first, last, type, 0}), allowed) << "seed " << seed;
      if (allowed)
        for (std::uint64_t at = first; at <= last; ++at) model[owner][at] = type;
      for (std::size_t each = 0; each < kOwners; ++each) {
        std::array<LockType, kBytes> seen{};
        for (const LockRange& range :
             table.held_by({NodeId{static_cast<std::uint16_t>(each)}, 5, false}))
          for (std::uint64_t at = range.first; at <= range.last; ++at) {
            ASSERT_EQ(seen[at], LockType::kUnlock) << "held twice, seed " << seed;
            seen[at] = range.type;
          }
        ASSERT_EQ(seen, model[each]) << "seed " << seed;
      }
    }
  }
}

}  // namespace
}  // namespace gob::file
