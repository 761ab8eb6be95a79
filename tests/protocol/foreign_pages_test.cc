// What other nodes wrote to a file and only its home has does not end with the home: the home tells
// the next manager, and that one refuses the page when the home is gone.
#include <gtest/gtest.h>

#include "tests/protocol/core_driver.h"

namespace gob::test {
namespace {

using enum MessageType;

constexpr unsigned kNodes = 4;
constexpr unsigned kOther = 2;

CoreDriver::Options options_of(unsigned self, unsigned home) {
  CoreDriver::Options options;
  options.self = self;
  options.nodes = kNodes;
  options.home = node(home);
  return options;
}
PageSet one(std::uint64_t index) { return PageSet::of(page(index)); }

void moved(Message& m) {
  m.payload = Payload::kMove;
  m.dirty = true;
}

// This node is the home, node 1 manages the page.
class ForeignPageAtHome : public ::testing::Test {
 protected:
  bool reports_foreign(unsigned epoch) {
    d.new_view(view_of(epoch, kNodes));
    const std::string text = d.finish_view(false);
    for (unsigned other = 1; other < kNodes; ++other)
      d.deliver(other, message(kReportEnd, PageSet{}));
    return text.find("foreign, dirty) to 1") != std::string::npos;
  }
  const std::uint64_t p = page_of_manager(1, kNodes);
  CoreDriver d{options_of(0, 0)};
};

TEST_F(ForeignPageAtHome, IsReportedAsSuchUntilTheFileHasIt) {
  d.write(p);
  d.deliver(kOther, message(kGrant, one(p), moved));
  d.hold_expired(p);
  EXPECT_TRUE(reports_foreign(2));
  d.step(event::WriteBack{one(p)});
  d.deliver(1, message(kPage, one(p), [](Message& m) { m.confirm = true; }));
  EXPECT_TRUE(reports_foreign(3)) << "the disk has not said that it is done";
  d.deliver(1, message(kPage, one(p), [](Message& m) { m.confirm = true; }));
  d.step(event::WrittenBack{one(p), true});  // of the write of epoch 2
  d.step(event::WrittenBack{one(p), true});
  EXPECT_FALSE(reports_foreign(4));
}

TEST_F(ForeignPageAtHome, MayHaveComeAcrossAViewChange) {
  d.write(p);
  Message grant = message(kGrant, one(p), moved);
  grant.epoch = Epoch{1};
  d.new_view(view_of(2, kNodes));
  d.deliver(kOther, grant);
  EXPECT_NE(d.finish_view(false).find("foreign, dirty) to 1"), std::string::npos);
}

TEST_F(ForeignPageAtHome, MayHaveComeAsTheLastCopy) {
  d.deliver(kOther, message(kInject, one(p), [](Message& m) {
              m.payload = Payload::kCopy;
              m.device = m.dirty = true;
            }));
  EXPECT_TRUE(reports_foreign(2));
}

TEST_F(ForeignPageAtHome, IsNotWhatTheHomeWroteItself) {
  d.write(p);
  d.deliver(1, message(kGrant, one(p), [](Message& m) { m.device = m.confirm = true; }));
  d.swapped_in(p, true);
  EXPECT_FALSE(reports_foreign(2));
  EXPECT_TRUE(d.core().local(page(p)).dirty);
}

// This node goes on to manage the page whichever of the others die; node 1 is the home.
class ForeignPageAtManager : public ::testing::Test {
 protected:
  static std::uint64_t managed_here() {
    for (std::uint64_t index = 0;; index += kStripePages) {
      const auto here = [&](std::initializer_list<unsigned> dead) {
        return view_of(1, kNodes, dead).manager(kContainer, index / kStripePages) == node(0);
      };
      if (here({}) && here({3}) && here({1, 3})) return index;
    }
  }
  // Node 3 died, then the home, which had reported the page.
  void home_dies_after_its_report(bool foreign) {
    const View first = view_of(2, kNodes, {3});
    d.new_view(first);
    d.finish_view(false);
    d.deliver(1, message(kReport, one(p), [&](Message& m) {
                m.holding = Holding::kSole;
                m.dirty = true;
                m.sole = foreign;
              }));
    for (unsigned other : {1u, kOther}) d.deliver(other, message(kReportEnd, PageSet{}));
    View second = view_of(3, kNodes, {1, 3});
    second.losses = first.losses;
    second.losses.push_back({.epoch = Epoch{3}, .members = first.members, .dead = {node(1)}});
    d.new_view(second);
    d.finish_view();
  }
  const std::uint64_t p = managed_here();
  CoreDriver d{options_of(0, 1)};
};

TEST_F(ForeignPageAtManager, IsLostWithTheHome) {
  home_dies_after_its_report(true);
  ASSERT_TRUE(d.core().entry(page(p)).has_value());
  EXPECT_EQ(d.core().entry(page(p))->lost, 1u);
}

TEST_F(ForeignPageAtManager, WhatTheHomeAloneWroteIsWhatItsFileHas) {
  home_dies_after_its_report(false);
  EXPECT_FALSE(d.core().entry(page(p)).has_value());
}

}  // namespace
}  // namespace gob::test
