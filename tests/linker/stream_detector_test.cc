#include "libgob/linker/stream_detector.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace gob {
namespace {

constexpr ContainerId kContainer{3};

StreamDetector detector(std::uint64_t pages = 4096, unsigned window = 64, std::uint64_t first = 0) {
  return {kContainer, PageIndex{first}, pages, window};
}

std::vector<std::uint64_t> pages_of(const StreamDetector::Advice& advice) {
  std::vector<std::uint64_t> pages;
  for (unsigned i = 0; i < advice.count; ++i)
    for_each_page(advice.runs[i].pages, [&](PageId page) { pages.push_back(page.page.value()); });
  return pages;
}

// A program that reads [first, end) in order, with every page that is asked for arriving at once.
// Records what it cost.
struct Reader {
  StreamDetector& streams;
  std::set<std::uint64_t> mapped = {};
  std::set<std::uint64_t> asked = {};
  std::vector<unsigned> runs = {};
  unsigned faults = 0;
  unsigned misses = 0;  // faults on pages that nobody asked for

  void read(std::uint64_t page, Access access = Access::kRead) {
    if (mapped.contains(page)) return;
    ++faults;
    if (!asked.contains(page)) ++misses;
    mapped.insert(page);
    const auto advice = streams.on_fault(PageIndex{page}, access);
    unsigned size = 0;
    for (unsigned i = 0; i < advice.count; ++i) {
      const StreamDetector::Run& run = advice.runs[i];
      EXPECT_FALSE(run.pages.empty());
      EXPECT_EQ(run.unmapped & ~run.pages.mask, 0u);
      size += run.pages.size();
      for_each_page(run.pages, [&](PageId id) {
        EXPECT_TRUE(asked.insert(id.page.value()).second) << "asked twice: " << id.page.value();
        if (((run.unmapped >> (id.page.value() % kStripePages)) & 1) == 0)
          mapped.insert(id.page.value());
      });
    }
    if (size > 0) runs.push_back(size);
  }
};

TEST(StreamDetectorTest, SingleFaultsAskForNothing) {
  auto streams = detector();
  for (const std::uint64_t page : {5u, 900u, 17u, 300u, 5u, 18u * 7u})
    EXPECT_EQ(streams.on_fault(PageIndex{page}, Access::kRead).count, 0u);
}

TEST(StreamDetectorTest, SecondFaultInOrderAsksForFour) {
  auto streams = detector();
  EXPECT_EQ(streams.on_fault(PageIndex{10}, Access::kRead).count, 0u);
  const auto advice = streams.on_fault(PageIndex{11}, Access::kRead);
  EXPECT_EQ(pages_of(advice), (std::vector<std::uint64_t>{12, 13, 14, 15}));
  EXPECT_EQ(advice.runs[0].unmapped, std::uint64_t{1} << 14);
}

TEST(StreamDetectorTest, MarkerAsksForTheNextRunBeforeThisOneEnds) {
  auto streams = detector();
  streams.on_fault(PageIndex{0}, Access::kRead);
  streams.on_fault(PageIndex{1}, Access::kRead);  // asks 2..5, marker 4
  const auto advice = streams.on_fault(PageIndex{4}, Access::kRead);
  EXPECT_EQ(pages_of(advice), (std::vector<std::uint64_t>{6, 7, 8, 9, 10, 11, 12, 13}));
  EXPECT_EQ(advice.runs[0].unmapped, std::uint64_t{1} << 6);
}

TEST(StreamDetectorTest, WindowGrowsToWholeStripes) {
  auto streams = detector();
  Reader reader{streams};
  for (std::uint64_t page = 0; page < 4096; ++page) reader.read(page);
  EXPECT_EQ(reader.misses, 2u);
  EXPECT_EQ(reader.runs[0], 4u);
  EXPECT_EQ(reader.runs[1], 8u);
  EXPECT_EQ(reader.runs[2], 16u);
  EXPECT_LT(reader.faults, 4096 / 64 + 10u);
  EXPECT_EQ(reader.asked.size(), 4096 - 2u);
  EXPECT_EQ(*reader.asked.rbegin(), 4095u);
  for (std::size_t i = 6; i + 1 < reader.runs.size(); ++i) EXPECT_EQ(reader.runs[i], 64u);
}

TEST(StreamDetectorTest, SeveralStripesAreUnderWayInALongStream) {
  auto streams = detector(1 << 20, StreamDetector::kMaxWindow);
  Reader reader{streams};
  std::uint64_t least = ~std::uint64_t{0};
  std::uint64_t most = 0;
  for (std::uint64_t page = 0; page < 100'000; ++page) {
    reader.read(page);
    const std::uint64_t ahead = *reader.asked.rbegin() - page;
    if (page < 2000 || page % kStripePages != 0) continue;
    least = std::min(least, ahead);
    most = std::max(most, ahead);
  }
  EXPECT_EQ(reader.misses, 2u);
  EXPECT_GE(least, StreamDetector::kMaxWindow - kStripePages);
  EXPECT_LE(most, StreamDetector::kMaxWindow);
  EXPECT_LT(reader.faults, 100'000 / 64 + 20u);
}

TEST(StreamDetectorTest, PagesTakenBackBeforeTheirTurnAskForMorePatience) {
  auto streams = detector();
  const auto faults_until_asked = [&](std::uint64_t page) {
    for (unsigned faults = 1;; ++faults, ++page)
      if (streams.on_fault(PageIndex{page}, Access::kWrite).count != 0) return faults;
  };
  unsigned expected = 2;
  for (std::uint64_t start = 0; start < 4000; start += 500) {
    ASSERT_EQ(faults_until_asked(start), expected);
    streams.on_taken(PageIndex{start + expected});
    expected = std::min(expected * 2, 32u);
  }
  // Reads were never disappointed.
  streams.on_fault(PageIndex{9}, Access::kRead);
  EXPECT_NE(streams.on_fault(PageIndex{10}, Access::kRead).count, 0u);
}

TEST(StreamDetectorTest, SuccessBringsConfidenceBack) {
  auto streams = detector();
  streams.on_fault(PageIndex{0}, Access::kRead);
  streams.on_fault(PageIndex{1}, Access::kRead);  // asks 2..5
  streams.on_taken(PageIndex{5});
  Reader reader{streams};
  for (std::uint64_t page = 1000; page < 1100; ++page) reader.read(page);
  EXPECT_EQ(reader.misses, 4u);
  Reader again{streams};
  for (std::uint64_t page = 2000; page < 2100; ++page) again.read(page);
  EXPECT_EQ(again.misses, 2u);
}

TEST(StreamDetectorTest, PagesTakenAfterTheirTurnAreNoDisappointment) {
  auto streams = detector();
  Reader reader{streams};
  for (std::uint64_t page = 0; page < 200; ++page) reader.read(page);
  for (std::uint64_t page = 0; page < 128; ++page) streams.on_taken(PageIndex{page});
  for (std::uint64_t page = 200; page < 400; ++page) reader.read(page);
  EXPECT_EQ(reader.misses, 2u);
}

TEST(StreamDetectorTest, NeverAsksOutsideTheMapping) {
  for (std::uint64_t size = 1; size < 200; ++size) {
    auto streams = detector(size, 64, 100);
    Reader reader{streams};
    for (std::uint64_t page = 100; page < 100 + size; ++page) reader.read(page);
    if (!reader.asked.empty()) {
      EXPECT_LT(*reader.asked.rbegin(), 100 + size);
    }
    EXPECT_LE(reader.misses, 2u);
  }
}

TEST(StreamDetectorTest, RunsThatCrossAStripeComeInTwoParts) {
  auto streams = detector();
  streams.on_fault(PageIndex{61}, Access::kRead);
  const auto advice = streams.on_fault(PageIndex{62}, Access::kRead);
  ASSERT_EQ(advice.count, 2u);  // the first part alone would be less than half
  EXPECT_EQ(pages_of(advice), (std::vector<std::uint64_t>{63, 64, 65, 66}));
  EXPECT_EQ(advice.runs[0].pages.stripe, 0u);
  EXPECT_EQ(advice.runs[1].pages.stripe, 1u);
}

TEST(StreamDetectorTest, SeveralStreamsAtOnce) {
  auto streams = detector();
  Reader reader{streams};
  for (std::uint64_t step = 0; step < 500; ++step)
    for (std::uint64_t stream = 0; stream < 4; ++stream) reader.read(stream * 1000 + step);
  EXPECT_EQ(reader.misses, 8u);
  EXPECT_LT(reader.faults, 4 * (500 / 64 + 12u));
}

TEST(StreamDetectorTest, RandomFaultsHardlyAskForAnything) {
  auto streams = detector(1 << 20);
  std::uint64_t asked = 0;
  std::uint64_t state = 1;
  for (int i = 0; i < 10'000; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    asked += pages_of(streams.on_fault(PageIndex{state >> 44}, Access::kRead)).size();
  }
  EXPECT_LT(asked, 100u);
}

TEST(StreamDetectorTest, ReadsAndWritesAreStreamsOfTheirOwn) {
  auto streams = detector();
  streams.on_fault(PageIndex{0}, Access::kRead);
  EXPECT_EQ(streams.on_fault(PageIndex{1}, Access::kWrite).count, 0u);
  EXPECT_EQ(pages_of(streams.on_fault(PageIndex{2}, Access::kWrite)).size(), 4u);
  EXPECT_EQ(pages_of(streams.on_fault(PageIndex{1}, Access::kRead)).size(), 4u);
}

TEST(StreamDetectorTest, PagesThatDidNotArriveAreNotAskedForAgain) {
  auto streams = detector();
  streams.on_fault(PageIndex{0}, Access::kRead);
  streams.on_fault(PageIndex{1}, Access::kRead);  // asks 2..5
  EXPECT_EQ(streams.on_fault(PageIndex{2}, Access::kRead).count, 0u);
  EXPECT_EQ(streams.on_fault(PageIndex{3}, Access::kRead).count, 0u);
  EXPECT_EQ(pages_of(streams.on_fault(PageIndex{4}, Access::kRead)).size(), 8u);
}

TEST(StreamDetectorTest, SeveralThreadsOnOnePageAreOneFault) {
  auto streams = detector();
  for (int i = 0; i < 5; ++i) EXPECT_EQ(streams.on_fault(PageIndex{7}, Access::kRead).count, 0u);
  EXPECT_EQ(pages_of(streams.on_fault(PageIndex{8}, Access::kRead)).size(), 4u);
}

TEST(StreamDetectorTest, SmallWindowsHold) {
  for (unsigned window = 1; window <= 5; ++window) {
    auto streams = detector(4096, window);
    Reader reader{streams};
    for (std::uint64_t page = 0; page < 300; ++page) reader.read(page);
    for (const unsigned run : reader.runs) EXPECT_LE(run, window);
    EXPECT_LE(reader.misses, 2u);
  }
}

TEST(StreamDetectorTest, WindowOfZeroTurnsItOff) {
  auto streams = detector(4096, 0);
  for (std::uint64_t page = 0; page < 100; ++page)
    EXPECT_EQ(streams.on_fault(PageIndex{page}, Access::kRead).count, 0u);
}

}  // namespace
}  // namespace gob
