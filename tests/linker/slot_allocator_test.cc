#include "libgob/linker/slot_allocator.h"

#include <gtest/gtest.h>

#include <set>

namespace gob {
namespace {

using Slots = std::vector<SlotAllocator::Slot>;

bool neighbours(const Slots& slots) {
  for (std::size_t i = 1; i < slots.size(); ++i)
    if (slots[i] != slots[0] + i) return false;
  return true;
}

TEST(SlotAllocatorTest, RunsAreNeighboursFromTheStart) {
  SlotAllocator allocator(1000);
  Slots first;
  ASSERT_TRUE(allocator.allocate(64, first));
  EXPECT_TRUE(neighbours(first));
  EXPECT_EQ(first[0], 0u);
  Slots second;
  ASSERT_TRUE(allocator.allocate(5, second));
  EXPECT_TRUE(neighbours(second));
  EXPECT_EQ(second[0], 64u);
}

TEST(SlotAllocatorTest, EverySlotIsGivenOnceUpToTheLimit) {
  SlotAllocator allocator(300);  // not a multiple of anything
  std::set<SlotAllocator::Slot> seen;
  Slots slots;
  for (int i = 0; i < 42; ++i) ASSERT_TRUE(allocator.allocate(7, slots));
  EXPECT_FALSE(allocator.allocate(7, slots));
  EXPECT_EQ(slots.size(), 42 * 7u);
  ASSERT_TRUE(allocator.allocate(6, slots));
  for (const auto slot : slots) {
    EXPECT_LT(slot, 300u);
    EXPECT_TRUE(seen.insert(slot).second);
  }
  EXPECT_EQ(allocator.used(), 300u);
}

TEST(SlotAllocatorTest, ReleasedSlotsAreUsedBeforeTheFileGrows) {
  SlotAllocator allocator(1 << 20);
  Slots slots;
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(allocator.allocate(64, slots));
  for (unsigned slot = 100; slot < 110; ++slot) allocator.release(slot);
  Slots again;
  ASSERT_TRUE(allocator.allocate(10, again));
  EXPECT_EQ(again[0], 100u);
  EXPECT_TRUE(neighbours(again));
}

TEST(SlotAllocatorTest, ScatteredSlotsServeWhenNoRunIsLeft) {
  SlotAllocator allocator(256);
  Slots slots;
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(allocator.allocate(64, slots));
  for (unsigned slot = 0; slot < 256; slot += 2) allocator.release(slot);
  Slots scattered;
  ASSERT_TRUE(allocator.allocate(64, scattered));
  ASSERT_TRUE(allocator.allocate(64, scattered));
  EXPECT_FALSE(allocator.allocate(1, scattered));
  EXPECT_EQ(std::set(scattered.begin(), scattered.end()).size(), 128u);
}

TEST(SlotAllocatorTest, NoRoomAtAll) {
  SlotAllocator allocator(0);
  Slots slots;
  EXPECT_FALSE(allocator.allocate(1, slots));
  EXPECT_TRUE(slots.empty());
}

}  // namespace
}  // namespace gob
