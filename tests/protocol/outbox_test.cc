// How the actions of a step join into runs without ever changing the order for one page.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/protocol/core_driver.h"

namespace gob::test {
namespace {

// Node 0 manages page `p`; node 1 manages page `q`.
class Outbox : public ::testing::Test {
 protected:
  void give_run(std::uint64_t first, std::uint64_t last) {
    const PageSet all = run(first, last);
    d.touch(all, Access::kWrite);
    if (d.manager_of(first) != 0)
      d.deliver(1,
                message(MessageType::kGrant, all, [](Message& m) { m.payload = Payload::kZero; }));
    d.step(event::HoldExpired{all});
  }

  const std::uint64_t p = page_of_manager(0, 4);
  const std::uint64_t q = page_of_manager(1, 4);
  CoreDriver d;
};

TEST_F(Outbox, JoinsWhatIsAlikeAndKeepsApartWhatIsNot) {
  d.deliver(1, message(MessageType::kGrab, run(p, p + 2)));
  d.deliver(2, message(MessageType::kGrab, run(p + 3, p + 5)));
  EXPECT_EQ(d.deliver(3, message(MessageType::kGet, run(p, p + 7))),
            "ForwardGet " + pages_text(run(p, p + 2)) + " (for 3) to 1; ForwardGet " +
                pages_text(run(p + 3, p + 5)) + " (for 3) to 2; Grant " +
                pages_text(run(p + 6, p + 7)) + " (zero) to 3");
}

TEST_F(Outbox, JoinsPagesThatLieApart) {
  d.deliver(1, message(MessageType::kGrab, pages({p, p + 2, p + 4})));
  d.deliver(2, message(MessageType::kGrab, pages({p + 1, p + 3})));
  EXPECT_EQ(d.deliver(3, message(MessageType::kGet, run(p, p + 4))),
            "ForwardGet " + pages_text(pages({p, p + 2, p + 4})) + " (for 3) to 1; ForwardGet " +
                pages_text(pages({p + 1, p + 3})) + " (for 3) to 2");
}

TEST_F(Outbox, NeverJoinsPagesOfDifferentStripes) {
  // Two stripes of one manager, asked for in one step: what waited for a view.
  const std::uint64_t other = q + 4 * kStripePages;
  ASSERT_EQ(d.manager_of(other), 1u);
  d.new_view(view_of(2, 4));
  for (std::uint64_t first : {q, q + 1, other, other + 1}) d.read(first);
  d.deliver(1, message(MessageType::kMarker, PageSet{}));
  d.deliver(2, message(MessageType::kMarker, PageSet{}));
  EXPECT_THAT(d.deliver(3, message(MessageType::kMarker, PageSet{})),
              ::testing::EndsWith("Get " + pages_text(run(q, q + 1)) + " to 1; Get " +
                                  pages_text(run(other, other + 1)) + " to 1"));
}

TEST_F(Outbox, AWholeStripeIsOneMessageOneInstallAndOneHold) {
  const PageSet all = run(q, q + kStripePages - 1);
  EXPECT_EQ(d.touch(all, Access::kRead), "Get " + pages_text(all) + " to 1");
  EXPECT_EQ(d.deliver(2, message(MessageType::kPage, all,
                                 [](Message& m) {
                                   m.payload = Payload::kCopy;
                                   m.confirm = true;
                                 })),
            "Install " + pages_text(all) + " (read); Confirm " + pages_text(all) + " to 1; Hold " +
                pages_text(all));
}

TEST_F(Outbox, EachPageIsDowngradedBeforeItIsSentAndInvalidatedBeforeItIsAcknowledged) {
  give_run(q, q + 3);
  EXPECT_EQ(d.deliver(1, message(MessageType::kForwardGet, run(q, q + 3),
                                 [](Message& m) { m.requester = node(2); })),
            "Downgrade " + pages_text(run(q, q + 3)) + "; Page " + pages_text(run(q, q + 3)) +
                " (copy, confirm) to 2");
  EXPECT_EQ(d.deliver(1, message(MessageType::kInvalidate, run(q, q + 3),
                                 [](Message& m) { m.requester = node(2); })),
            "Invalidate " + pages_text(run(q, q + 3)) + "; InvalidateAck " +
                pages_text(run(q, q + 3)) + " (for 2) to 2");
}

TEST_F(Outbox, ActionsOfAnEarlierStepAreNeverChanged) {
  // The host may give the same vector to several steps.
  Core core = d.core();
  Actions actions;
  core.step(event::Touch{pages({q}), Access::kRead}, actions);
  core.step(event::Touch{pages({q + 1}), Access::kRead}, actions);
  EXPECT_EQ(actions_text(actions, numbered()),
            "Get " + std::to_string(q) + " to 1; Get " + std::to_string(q + 1) + " to 1");
}

TEST_F(Outbox, TheHintIsThatOfTheLastPage) {
  CoreDriver small({.budget_frames = 100});
  small.touch(run(q, q + 9), Access::kRead);
  EXPECT_EQ(small.last_hint(), 90u);
}

TEST_F(Outbox, ReportsStayBeforeTheEndOfTheReport) {
  give_run(q, q + 3);
  d.deliver(1, message(MessageType::kForwardGet, pages({q + 1}),
                       [](Message& m) { m.requester = node(2); }));
  d.new_view(view_of(2, 4));
  d.deliver(1, message(MessageType::kMarker, PageSet{}));
  d.deliver(2, message(MessageType::kMarker, PageSet{}));
  EXPECT_EQ(d.deliver(3, message(MessageType::kMarker, PageSet{})),
            "Report " + std::to_string(q + 1) + " (read) to 1; Report " +
                pages_text(pages({q, q + 2, q + 3})) +
                " (sole) to 1; ReportEnd to 1; ReportEnd to 2; ReportEnd to 3");
}

}  // namespace
}  // namespace gob::test
