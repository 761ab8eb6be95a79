// Which pages are still to come, whatever the program does to its memory meanwhile.
#include "libgob/migration/lazy_ranges.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace gob::migration {
namespace {

constexpr std::uint64_t kPage = 4096;
using Part = LazyRanges::Run;

TEST(LazyRanges, FindsAPageAndWhatFollowsItInItsRun) {
  LazyRanges ranges;
  ranges.add(0x10000, 7, 4);
  EXPECT_EQ(ranges.find(0x11000, 2), (Part{0x11000, 8, 2}));
  EXPECT_EQ(ranges.find(0x13000, 9), (Part{0x13000, 10, 1}));
  EXPECT_FALSE(ranges.find(0x14000, 1).has_value());
  EXPECT_FALSE(ranges.find(0xf000, 1).has_value());
}

TEST(LazyRanges, NextGoesOnBehindTheCursorThenStartsOver) {
  LazyRanges ranges;
  ranges.add(0x10000, 0, 1);
  ranges.add(0x20000, 1, 2);
  EXPECT_EQ(ranges.next(0x11000, 64), (Part{0x20000, 1, 2}));
  EXPECT_EQ(ranges.next(0x30000, 64), (Part{0x10000, 0, 1}));
  ranges.drop(0, ~std::uint64_t{0});
  EXPECT_FALSE(ranges.next(0, 64).has_value());
  EXPECT_TRUE(ranges.empty());
}

TEST(LazyRanges, AHoleLeavesBothSides) {
  LazyRanges ranges;
  ranges.add(0x10000, 100, 8);
  ranges.drop(0x12000, 0x14000);
  EXPECT_EQ(ranges.find(0x10000, 64), (Part{0x10000, 100, 2}));
  EXPECT_FALSE(ranges.find(0x13000, 1).has_value());
  EXPECT_EQ(ranges.find(0x14000, 64), (Part{0x14000, 104, 4}));
  EXPECT_EQ(ranges.pages(), 6u);
}

TEST(LazyRanges, MovingTakesAlongWhatIsStillToComeAndNothingElse) {
  LazyRanges ranges;
  ranges.add(0x10000, 100, 4);
  ranges.add(0x40000, 200, 2);
  ranges.move(0x11000, 0x40000, 2 * kPage);
  EXPECT_EQ(ranges.find(0x10000, 64), (Part{0x10000, 100, 1}));
  EXPECT_EQ(ranges.find(0x40000, 64), (Part{0x40000, 101, 2}));
  EXPECT_EQ(ranges.find(0x13000, 64), (Part{0x13000, 103, 1}));
  EXPECT_EQ(ranges.pages(), 4u);
}

// Against the plainest model: a page number for each address.
TEST(LazyRanges, AgreesWithAMapOfSinglePages) {
  std::mt19937 random(42);
  const auto below = [&](std::uint64_t n) { return random() % n; };
  for (int world = 0; world < 200; ++world) {
    LazyRanges ranges;
    std::map<std::uint64_t, std::uint64_t> model;
    std::uint64_t number = 0;
    for (std::uint64_t at = 0; at < 64; at += 1 + below(6)) {
      const std::uint64_t pages = std::min<std::uint64_t>(64 - at, 1 + below(5));
      ranges.add(at * kPage, number, pages);
      for (std::uint64_t i = 0; i < pages; ++i) model[at + i] = number + i;
      number += pages;
      at += pages;
    }
    for (int step = 0; step < 20; ++step) {
      const std::uint64_t from = below(60);
      const std::uint64_t pages = 1 + below(8);
      if (below(2) == 0) {
        ranges.drop(from * kPage, (from + pages) * kPage);
        for (std::uint64_t i = 0; i < pages; ++i) model.erase(from + i);
      } else {
        const std::uint64_t to = 100 + below(60);
        ranges.move(from * kPage, to * kPage, pages * kPage);
        std::map<std::uint64_t, std::uint64_t> moved;
        for (std::uint64_t i = 0; i < pages; ++i)
          if (model.contains(from + i)) moved[to + i] = model[from + i];
        for (std::uint64_t i = 0; i < pages; ++i) {
          model.erase(from + i);
          model.erase(to + i);
        }
        model.insert(moved.begin(), moved.end());
      }
      ASSERT_EQ(ranges.pages(), model.size());
      for (std::uint64_t at = 0; at < 180; ++at) {
        const auto found = ranges.find(at * kPage, 1);
        ASSERT_EQ(found.has_value(), model.contains(at)) << at;
        if (found) {
          ASSERT_EQ(found->page, model[at]) << at;
        }
      }
    }
  }
}

}  // namespace
}  // namespace gob::migration
