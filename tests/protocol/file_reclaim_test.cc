// Page replacement where there are files: their pages give way first, and of these copies that
// others have, too.
#include <gtest/gtest.h>

#include <vector>

#include "tests/protocol/core_driver.h"

namespace gob::test {
namespace {

using enum MessageType;

constexpr unsigned kNodes = 4;
constexpr unsigned kOther = 2;

// This node is 0, the home of the file node 1.
CoreDriver::Options with_file(std::uint64_t budget, std::uint64_t low, std::uint64_t high) {
  CoreDriver::Options options;
  options.nodes = kNodes;
  options.home = node(1);
  options.budget_frames = budget;
  options.low_water_frames = low;
  options.high_water_frames = high;
  return options;
}
PageSet one(std::uint64_t index) { return PageSet::of(page(index)); }

// Files and memory share the frames of node 0.
class FileReclaimTest : public ::testing::Test {
 protected:
  static CoreDriver::Options few_frames() {
    CoreDriver::Options options = with_file(8, 1, 2);
    options.hold_grants = false;
    return options;
  }
  FileReclaimTest() : d(few_frames()) {
    d.step(event::AddContainer{{ContainerId{2}, 4096, Epoch{1}, kNoNode}});
  }
  // A page of memory, created at its manager or on its word.
  void write_memory(std::uint64_t index) {
    const PageSet pages = PageSet::of({ContainerId{2}, PageIndex{index}});
    d.touch(pages, Access::kWrite);
    const unsigned manager = d.core().view().manager(ContainerId{2}, index / kStripePages).value();
    if (manager != 0)
      d.deliver(manager, message(kGrant, pages, [](Message& m) { m.payload = Payload::kZero; }));
  }
  void read_file(std::uint64_t index, unsigned from) {
    d.read(index);
    d.deliver(from, message(kPage, one(index), [](Message& m) {
                m.payload = Payload::kCopy;
                m.confirm = true;
              }));
  }
  CoreDriver d;
};

TEST_F(FileReclaimTest, PagesOfFilesGiveWayBeforePagesOfMemory) {
  const std::uint64_t p = page_of_manager(2, kNodes);
  for (std::uint64_t i = 0; i < 4; ++i) write_memory(i);
  for (std::uint64_t i = 0; i < 3; ++i) read_file(p + i, 1);
  unsigned files = 0;
  for (int round = 0; round < 8; ++round) {
    d.step(event::Expire{one(p)});  // any event lets the hand move
    d.core().locals().for_each([&](PageKey key, const LocalPage& local) {
      if (!local.flushing) return;
      EXPECT_EQ(page_of(key).container, kContainer);
      ++files;
    });
  }
  EXPECT_GT(files, 0u);
}

// Of the 60 pages of a file that fill node 0, others hold some, too: these cost nobody a message
// with bytes, nor the disk of the home a read, when they are wanted again.
class SharedCopies : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kPages = 60;
  static constexpr std::size_t kGiveWay = 8;  // from the low water to the high, and maybe one more

  SharedCopies() : d(with_file(64, 4, 12)) {}
  // Nobody used them here, so that nothing else tells one from the other.
  void arrive(std::uint64_t index) {
    d.deliver(kOther, message(kInject, one(index), [](Message& m) { m.payload = Payload::kCopy; }));
  }
  void share(std::uint64_t index) {
    d.deliver(2, message(kForwardGet, one(index), [](Message& m) { m.requester = node(3); }));
  }
  [[nodiscard]] std::vector<std::uint64_t> flushing() const {
    std::vector<std::uint64_t> found;
    for (std::uint64_t i = p; i < p + kPages; ++i)
      if (d.core().local(page(i)).flushing) found.push_back(i);
    return found;
  }

  const std::uint64_t p = page_of_manager(2, kNodes);
  CoreDriver d;
};

TEST_F(SharedCopies, GiveWayBeforeLastCopies) {
  for (std::uint64_t i = 0; i < kPages - 1; ++i) arrive(p + i);
  for (std::uint64_t i = 1; i < kPages - 1; i += 2) share(p + i);
  EXPECT_TRUE(flushing().empty());
  arrive(p + kPages - 1);
  EXPECT_GE(flushing().size(), kGiveWay);
  for (const std::uint64_t each : flushing())
    EXPECT_TRUE(d.core().local(page(each)).shared) << "page " << each - p << " is a last copy";
}

TEST_F(SharedCopies, AreFollowedByLastCopiesWhenTheyDoNotMakeRoomEnough) {
  for (std::uint64_t i = 0; i < kPages - 1; ++i) arrive(p + i);
  const std::vector<std::uint64_t> shared{p + 20, p + 40, p + 50};
  for (const std::uint64_t each : shared) share(each);
  arrive(p + kPages - 1);
  EXPECT_GE(flushing().size(), kGiveWay);
  for (const std::uint64_t each : shared) EXPECT_TRUE(d.core().local(page(each)).flushing);
}

}  // namespace
}  // namespace gob::test
