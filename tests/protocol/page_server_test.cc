// The page server: sends copies, gives pages away, drops copies, and makes the peer wait while a
// program has its turn.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/protocol/core_driver.h"

namespace gob::test {
namespace {

// This node is 0; node 1 manages page `p`, node 2 or 3 wants it.
class PageServer : public ::testing::Test {
 protected:
  std::string forward(MessageType type, unsigned requester, std::uint32_t acks = 0) {
    return d.deliver(1, message(type, pages({p}), [=](Message& m) {
                       m.requester = node(requester);
                       m.acks = acks;
                     }));
  }
  std::string forward_get(unsigned requester) {
    return forward(MessageType::kForwardGet, requester);
  }
  std::string forward_grab(unsigned requester, std::uint32_t acks = 0) {
    return forward(MessageType::kForwardGrab, requester, acks);
  }
  std::string invalidate(unsigned requester) {
    return forward(MessageType::kInvalidate, requester);
  }
  // This node holds the page with a program in its turn.
  void held_write() {
    d.write(p);
    d.deliver(1, message(MessageType::kGrant, pages({p}),
                         [](Message& m) { m.payload = Payload::kZero; }));
    ASSERT_EQ(d.situation(p).page, "Write held");
  }
  void held_read() {
    d.read(p);
    d.deliver(
        2, message(MessageType::kPage, pages({p}), [](Message& m) { m.payload = Payload::kCopy; }));
    ASSERT_EQ(d.situation(p).page, "Read held");
  }

  const std::uint64_t p = page_of_manager(1, 4);
  const std::string name = std::to_string(p);
  CoreDriver d;
};

TEST_F(PageServer, WriteProtectsBeforeItSendsACopy) {
  d.give_write(p);
  EXPECT_EQ(forward_get(2), "Downgrade " + name + "; Page " + name + " (copy, confirm) to 2");
  EXPECT_EQ(d.state(p), PageState::kRead);
  EXPECT_EQ(forward_get(3), "Page " + name + " (copy, confirm) to 3");
}

TEST_F(PageServer, GivesThePageAwayWithTheNumberOfAcknowledgementsToAwait) {
  d.give_write(p);
  EXPECT_EQ(forward_grab(2, 3), "Grant " + name + " (move, 3 acks, confirm) to 2");
  EXPECT_EQ(d.state(p), PageState::kInvalid);
  EXPECT_EQ(d.core().locals().size(), 0u);
  EXPECT_EQ(d.core().resident_frames(), 0u);
}

TEST_F(PageServer, GivesAReadableCopyAwayToo) {
  d.give_read(p, 2);
  EXPECT_EQ(forward_grab(3), "Grant " + name + " (move, confirm) to 3");
}

TEST_F(PageServer, ARunLeavesAsARun) {
  const PageSet all = run(p, p + 7);
  d.touch(all, Access::kWrite);
  d.deliver(1, message(MessageType::kGrant, all, [](Message& m) { m.payload = Payload::kZero; }));
  d.step(event::HoldExpired{all});
  EXPECT_EQ(d.deliver(1, message(MessageType::kForwardGet, all,
                                 [](Message& m) { m.requester = node(2); })),
            "Downgrade " + pages_text(all) + "; Page " + pages_text(all) + " (copy, confirm) to 2");
  EXPECT_EQ(d.deliver(1, message(MessageType::kForwardGrab, all,
                                 [](Message& m) { m.requester = node(2); })),
            "Grant " + pages_text(all) + " (move, confirm) to 2");
}

TEST_F(PageServer, DropsItsCopyBeforeItAcknowledges) {
  d.give_read(p, 2);
  EXPECT_EQ(invalidate(3), "Invalidate " + name + "; InvalidateAck " + name + " (for 3) to 3");
  EXPECT_EQ(d.state(p), PageState::kInvalid);
}

TEST_F(PageServer, AcknowledgesForACopyItDoesNotHold) {
  EXPECT_EQ(invalidate(3), "InvalidateAck " + name + " (for 3) to 3");
}

TEST_F(PageServer, AHeldPageIsNotGivenAwayBeforeItsTurnIsOver) {
  held_write();
  EXPECT_EQ(forward_grab(2), "-");
  EXPECT_EQ(d.situation(p).deferred, 1u);
  EXPECT_EQ(d.hold_expired(p), "Grant " + name + " (move, confirm) to 2");
  EXPECT_EQ(d.situation(p).deferred, 0u);
}

TEST_F(PageServer, AHeldWriteIsNotDowngradedBeforeItsTurnIsOver) {
  held_write();
  EXPECT_EQ(forward_get(2), "-");
  EXPECT_EQ(d.hold_expired(p), "Downgrade " + name + "; Page " + name + " (copy, confirm) to 2");
}

TEST_F(PageServer, AHeldReadIsSharedAtOnce) {
  held_read();
  EXPECT_EQ(forward_get(3), "Page " + name + " (copy, confirm) to 3");
  EXPECT_EQ(d.situation(p).page, "Read held");
}

TEST_F(PageServer, AHeldReadIsNotInvalidatedBeforeItsTurnIsOver) {
  held_read();
  EXPECT_EQ(invalidate(3), "-");
  EXPECT_EQ(d.hold_expired(p), "Invalidate " + name + "; InvalidateAck " + name + " (for 3) to 3");
}

TEST_F(PageServer, WaitingReadersAreServedInTheOrderOfTheirArrival) {
  held_write();
  forward_get(3);
  forward_get(2);
  EXPECT_EQ(d.situation(p).deferred, 2u);
  EXPECT_EQ(d.hold_expired(p), "Downgrade " + name + "; Page " + name +
                                   " (copy, confirm) to 3; Page " + name + " (copy, confirm) to 2");
}

TEST_F(PageServer, AHoldThatExpiresWithNobodyWaitingDoesNothing) {
  held_write();
  EXPECT_EQ(d.hold_expired(p), "-");
  EXPECT_EQ(d.situation(p).page, "Write");
  EXPECT_EQ(d.hold_expired(p), "-");
}

TEST_F(PageServer, ServesWhileItsOwnUpgradeIsUnderWay) {
  d.give_read(p, 2);
  d.write(p);
  EXPECT_EQ(forward_get(3), "Page " + name + " (copy, confirm) to 3");
  EXPECT_EQ(forward_grab(3), "Grant " + name + " (move, confirm) to 3");
  EXPECT_EQ(d.situation(p).request, "asked Grab");
}

TEST_F(PageServer, AForwardToANodeWithoutThePageIsRefusedAndReported) {
  EXPECT_EQ(forward_get(2), "Refuse " + name + " (Lost, confirm, blames 0) to 2; violation");
  EXPECT_EQ(forward_grab(2, 2),
            "Refuse " + name + " (Lost, 2 acks, confirm, blames 0) to 2; violation");
}

TEST_F(PageServer, AnInvalidationOfTheOnlyCopyIsAViolation) {
  d.give_write(p);
  EXPECT_EQ(invalidate(3), "violation");
  EXPECT_EQ(d.state(p), PageState::kWrite);
}

TEST_F(PageServer, BringsASwappedPageBackBeforeItServes) {
  d.give_write(p);
  d.flush(p);
  d.deliver(1, message(MessageType::kFlushAlone, pages({p}), [](Message& m) { m.sole = true; }));
  d.swapped_out(p, true);
  ASSERT_EQ(d.state(p), PageState::kSwapped);
  EXPECT_EQ(forward_get(2), "SwapIn " + name);
  EXPECT_EQ(forward_get(3), "-");
  EXPECT_EQ(d.swapped_in(p, true), "FreeSwap " + name + "; Downgrade " + name + "; Page " + name +
                                       " (copy, confirm) to 2; Page " + name +
                                       " (copy, confirm) to 3");
}

TEST_F(PageServer, ASwappedPageThatCannotBeReadRefusesAllWhoWait) {
  d.give_write(p);
  d.flush(p);
  d.deliver(1, message(MessageType::kFlushAlone, pages({p}), [](Message& m) { m.sole = true; }));
  d.swapped_out(p, true);
  forward_grab(2, 0);
  EXPECT_EQ(d.swapped_in(p, false), "Refuse " + name + " (Io, confirm, blames 0) to 2");
  EXPECT_EQ(d.state(p), PageState::kSwapped) << "a later try may succeed";
  EXPECT_EQ(forward_grab(2, 0), "SwapIn " + name);
}

}  // namespace
}  // namespace gob::test
