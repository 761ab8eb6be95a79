// Fixture of the tests about view changes: a core in view 1 of four nodes, of which one dies. Test
// support.
#pragma once

#include <gtest/gtest.h>

#include "tests/protocol/core_driver.h"

namespace gob::test {

// Four nodes; node 3 dies in view 2 unless a test says otherwise. This is node 0.
class ViewChange : public ::testing::Test {
 protected:
  std::string mark(unsigned from, std::uint64_t epoch) {
    return d.deliver(from, message(MessageType::kMarker, PageSet{},
                                   [=](Message& m) { m.epoch = Epoch{epoch}; }));
  }
  std::string report_end(unsigned from, std::uint64_t epoch = 2) {
    return d.deliver(from, message(MessageType::kReportEnd, PageSet{},
                                   [=](Message& m) { m.epoch = Epoch{epoch}; }));
  }
  std::string report(unsigned from, PageSet about, Holding holding, std::uint64_t epoch = 2,
                     NodeId blamed = kNoNode) {
    return d.deliver(from, message(MessageType::kReport, about, [=](Message& m) {
                       m.holding = holding;
                       m.epoch = Epoch{epoch};
                       m.node = blamed;
                     }));
  }
  // A message of the first view, delivered late.
  std::string late(unsigned from, MessageType type, std::uint64_t index, const Edit& edit = {}) {
    Message m = message(type, pages({index}), edit);
    m.epoch = Epoch{1};
    return d.deliver(from, m);
  }
  // The first page that `manager` manages in view 2 (nodes 0 to 2).
  static std::uint64_t page_in_view_2(unsigned manager, std::uint64_t offset = 0) {
    const View view = view_of(2, 4, {3});
    for (std::uint64_t stripe = 0;; ++stripe)
      if (view.manager(kContainer, stripe) == node(manager)) return stripe * kStripePages + offset;
  }
  // A page that `before` manages in view 1 and `after` in view 2.
  static std::uint64_t page_from_to(unsigned before, unsigned after) {
    const View old_view = view_of(1, 4);
    const View new_view = view_of(2, 4, {3});
    for (std::uint64_t stripe = 0;; ++stripe)
      if (old_view.manager(kContainer, stripe) == node(before) &&
          new_view.manager(kContainer, stripe) == node(after))
        return stripe * kStripePages;
  }
  void to_view_2() { d.new_view(view_of(2, 4, {3})); }
  void to_rebuilding() {
    to_view_2();
    d.finish_view(false);
    ASSERT_EQ(d.core().phase(), Core::Phase::kRebuilding);
  }
  void to_serving() {
    to_view_2();
    d.finish_view();
    ASSERT_EQ(d.core().phase(), Core::Phase::kServing);
  }
  std::string get_from_1(std::uint64_t index) {
    return d.deliver(1, message(MessageType::kGet, pages({index})));
  }

  CoreDriver d;
};

}  // namespace gob::test
