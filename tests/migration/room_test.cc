// What a move needs, and when it is refused for want of room.
#include "libgob/migration/room.h"

#include <gtest/gtest.h>

#include "libgob/base/ids.h"

namespace gob::migration {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kPagesOfMiB = kMiB / kPageSize;

Room room(std::uint64_t budget, std::uint64_t spare, std::uint64_t swap = 0) {
  Room room;
  room.set_budget_pages(budget * kPagesOfMiB);
  room.set_free_pages(spare * kPagesOfMiB);
  room.set_spare_pages(spare * kPagesOfMiB);
  room.set_swap_pages(swap * kPagesOfMiB);
  room.set_has_swap(swap != 0);
  return room;
}
Status fits(std::uint64_t mib, const Room& own, const Room& there, std::uint64_t hinted = 0) {
  const Rooms rooms{own, {{"n2", 7 * kPagesOfMiB}, {"n3", hinted * kPagesOfMiB}}};
  return fits_cluster(mib * kPagesOfMiB, "n1", rooms, "n2", there);
}

TEST(Room, FramesAndSwapOfBothNodesCountOnce) {
  EXPECT_TRUE(fits(20, room(16, 10), room(16, 10)));
  EXPECT_FALSE(fits(21, room(16, 10), room(16, 10)));
  EXPECT_TRUE(fits(21, room(16, 10, 1), room(16, 10)));
  EXPECT_TRUE(fits(21, room(16, 10), room(16, 10, 1)));
}

TEST(Room, WhatOtherNodesSaidIsFreeCountsButTheTargetSpeaksForItself) {
  EXPECT_TRUE(fits(25, room(16, 10), room(16, 10), 5));
  EXPECT_FALSE(fits(26, room(16, 10), room(16, 10), 5));
}

TEST(Room, ATargetThatSaysNothingIsTrusted) { EXPECT_TRUE(fits(900, room(16, 10), Room())); }

TEST(Room, ARefusalNamesWhatThereIsAndHowMuchIsMissing) {
  const Status refused = fits(64, room(16, 10), room(32, 20, 4), 5);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kNoSpace);
  const std::string said = refused.error().message();
  for (const char* part : {"64 MiB", "n1 has 10 MiB left (budget 16 MiB, no swap)",
                           "n2 has 24 MiB left (budget 32 MiB, 4 MiB of swap free)",
                           "other nodes 5 MiB", "25 MiB more (--budget"})
    EXPECT_NE(said.find(part), std::string::npos) << part << " in: " << said;
}

TEST(Room, BasicNeedsFilesWhereGobNeedsPages) {
  Plan plan;
  plan.private_bytes = 100 * kMiB;
  plan.out_pages = 10 * kPagesOfMiB;
  plan.shared_bytes = 3 * kMiB;
  const Need lazily = need_of(plan, true);
  const Need at_once = need_of(plan, false);
  EXPECT_EQ(lazily.pages, at_once.pages);
  EXPECT_EQ(at_once.images - lazily.images, 90 * kMiB);
}

TEST(Room, TheMachineHasToHoldTheProcessItsFilesAndItsFrames) {
  const auto fits = [](std::uint64_t memory, std::uint64_t folder, bool both = false) {
    return fits_machine({memory * kMiB, folder * kMiB}, "/dev/shm", 40 * kMiB, 8 * kMiB, both,
                        30 * kPagesOfMiB, room(64, 20));
  };
  EXPECT_TRUE(fits(78, 8));  // 40 and a quarter, 8 of files, 20 in frames
  EXPECT_FALSE(fits(77, 8));
  EXPECT_FALSE(fits(90, 7));
  EXPECT_FALSE(fits(90, 15, true));
  EXPECT_TRUE(fits(90, 16, true));
  EXPECT_NE(fits(90, 7).error().message().find("only 7 MiB are free in /dev/shm"),
            std::string::npos);
}

}  // namespace
}  // namespace gob::migration
