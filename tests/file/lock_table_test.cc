// Locks on one file, from owners on several nodes.
#include "libgob/file/lock_table.h"

#include <gtest/gtest.h>

#include <array>
#include <random>

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
