// What a page costs, and that frames and promises are counted right.
#include <gtest/gtest.h>

#include "tests/protocol/core_driver.h"

namespace gob::test {
namespace {

static_assert(sizeof(PageTable<DirectoryEntry>::Slot) == 16);
static_assert(sizeof(PageTable<LocalPage>::Slot) == 16);

class Frames : public ::testing::Test {
 protected:
  const std::uint64_t p = page_of_manager(1, 4);
  CoreDriver d;
};

TEST_F(Frames, ADirectoryEntryCostsAtMost32Bytes) {
  CoreDriver one({.nodes = 1, .budget_frames = 1u << 20});
  one.step(event::AddContainer{{ContainerId{2}, kMaxPages, Epoch{1}, kNoNode}});
  Core core = one.core();
  Actions actions;
  for (std::uint64_t stripe = 0; stripe < 300; ++stripe) {
    core.step(
        event::Touch{PageSet{ContainerId{2}, stripe * 1000, ~std::uint64_t{0}}, Access::kWrite},
        actions);
    actions.clear();
    const std::size_t pages_here = core.directory().size();
    if (pages_here < 1000) continue;
    ASSERT_LE(core.directory().memory_bytes(), 32 * pages_here);
    ASSERT_LE(core.locals().memory_bytes(), 32 * pages_here);
  }
  EXPECT_EQ(core.resident_frames(), 300u * kStripePages);
}

TEST_F(Frames, AHugeContainerCostsNothingUntilItIsTouched) {
  const std::size_t before = d.core().directory().memory_bytes() + d.core().locals().memory_bytes();
  d.step(event::AddContainer{{ContainerId{2}, kMaxPages, Epoch{1}, kNoNode}});
  EXPECT_EQ(d.core().directory().memory_bytes() + d.core().locals().memory_bytes(), before);
}

TEST_F(Frames, AFrameIsCountedFromItsArrivalToItsDeparture) {
  EXPECT_EQ(d.core().resident_frames(), 0u);
  d.give_write(p);
  EXPECT_EQ(d.core().resident_frames(), 1u);
  d.deliver(
      1, message(MessageType::kForwardGet, pages({p}), [](Message& m) { m.requester = node(2); }));
  EXPECT_EQ(d.core().resident_frames(), 1u);
  d.deliver(
      1, message(MessageType::kInvalidate, pages({p}), [](Message& m) { m.requester = node(2); }));
  EXPECT_EQ(d.core().resident_frames(), 0u);
  EXPECT_EQ(d.core().locals().size(), 0u) << "no trace is left";
}

TEST_F(Frames, AnUpgradeThatLosesItsCopyIsPromisedAFrame) {
  CoreDriver small({.budget_frames = 100});
  small.give_read(p, 2);
  small.write(p);
  EXPECT_EQ(small.last_hint(), 99u);
  small.deliver(
      1, message(MessageType::kInvalidate, pages({p}), [](Message& m) { m.requester = node(2); }));
  EXPECT_EQ(small.last_hint(), 99u) << "the frame is free but promised";
}

TEST_F(Frames, HintsNeverPromiseWhatIsNotThere) {
  CoreDriver tiny({.budget_frames = 1, .low_water_frames = 0});
  tiny.read(p);
  EXPECT_EQ(tiny.last_hint(), 0u);
}

TEST_F(Frames, HintsAreCappedSoThatEqualStatesLookEqual) {
  CoreDriver vast({.budget_frames = std::uint64_t{1} << 40});
  vast.read(p);
  EXPECT_LE(vast.last_hint(), 1u << 20);
}

}  // namespace
}  // namespace gob::test
