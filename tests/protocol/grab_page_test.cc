// grab_page, the requester's end: the only copy arrives, then the acknowledgements.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/protocol/core_driver.h"

namespace gob::test {
namespace {

Message grant(PageSet about, Payload payload, std::uint32_t acks, bool confirm) {
  return message(MessageType::kGrant, about, [=](Message& m) {
    m.payload = payload;
    m.acks = acks;
    m.confirm = confirm;
  });
}
Message ack(PageSet about) {
  return message(MessageType::kInvalidateAck, about, [](Message& m) { m.requester = node(0); });
}

class GrabPage : public ::testing::Test {
 protected:
  const std::uint64_t p = page_of_manager(1, 4);
  const std::string name = std::to_string(p);
  CoreDriver d;
};

TEST_F(GrabPage, OfTheOnlyCopyIsWritableAtOnce) {
  d.write(p);
  EXPECT_EQ(d.deliver(2, grant(pages({p}), Payload::kMove, 0, true)),
            "Install " + name + " (write); Confirm " + name + " to 1; Hold " + name);
  EXPECT_EQ(d.situation(p).page, "Write held");
}

TEST_F(GrabPage, BytesAreOutOfSightUntilTheLastAcknowledgement) {
  d.write(p);
  EXPECT_EQ(d.deliver(2, grant(pages({p}), Payload::kMove, 2, true)),
            "Install " + name + " (unmapped)");
  EXPECT_EQ(d.state(p), PageState::kStored);
  EXPECT_EQ(d.read(p), "-") << "nobody may look yet";
  EXPECT_EQ(d.deliver(3, ack(pages({p}))), "-");
  EXPECT_EQ(d.deliver(1, ack(pages({p}))),
            "Map " + name + " (write); Confirm " + name + " to 1; Hold " + name);
  EXPECT_EQ(d.state(p), PageState::kWrite);
}

TEST_F(GrabPage, AcknowledgementsMayComeBeforeTheGrant) {
  d.write(p);
  EXPECT_EQ(d.deliver(3, ack(pages({p}))), "-");
  EXPECT_EQ(d.situation(p).request, "asked Grab, 1 ack early");
  EXPECT_EQ(d.deliver(2, grant(pages({p}), Payload::kMove, 1, true)),
            "Install " + name + " (write); Confirm " + name + " to 1; Hold " + name);
}

TEST_F(GrabPage, SomeAcknowledgementsBeforeAndSomeAfterTheGrant) {
  d.write(p);
  d.deliver(3, ack(pages({p})));
  EXPECT_EQ(d.deliver(2, grant(pages({p}), Payload::kMove, 2, true)),
            "Install " + name + " (unmapped)");
  EXPECT_EQ(d.deliver(1, ack(pages({p}))),
            "Map " + name + " (write); Confirm " + name + " to 1; Hold " + name);
}

TEST_F(GrabPage, AnUpgradeCarriesNoBytes) {
  d.give_read(p, 2);
  EXPECT_EQ(d.write(p), "Grab " + name + " to 1");
  EXPECT_EQ(d.state(p), PageState::kRead) << "readers go on meanwhile";
  EXPECT_EQ(d.read(p), "Map " + name + " (read)");
  EXPECT_EQ(d.deliver(1, grant(pages({p}), Payload::kNone, 1, true)), "-");
  EXPECT_EQ(d.situation(p).request, "granted, 1 ack missing");
  EXPECT_EQ(d.deliver(2, ack(pages({p}))),
            "Map " + name + " (write); Confirm " + name + " to 1; Hold " + name);
}

TEST_F(GrabPage, AnUpgradeWithoutOtherCopiesIsOneRoundTrip) {
  d.give_read(p, 2);
  d.write(p);
  EXPECT_EQ(d.deliver(1, grant(pages({p}), Payload::kNone, 0, false)),
            "Map " + name + " (write); Hold " + name);
}

TEST_F(GrabPage, AnUpgradeThatLostTheRaceReceivesTheBytes) {
  d.give_read(p, 2);
  d.write(p);
  EXPECT_EQ(d.deliver(1, message(MessageType::kInvalidate, pages({p}),
                                 [](Message& m) { m.requester = node(3); })),
            "Invalidate " + name + "; InvalidateAck " + name + " (for 3) to 3");
  EXPECT_EQ(d.situation(p).request, "asked Grab");
  EXPECT_EQ(d.deliver(3, grant(pages({p}), Payload::kMove, 0, true)),
            "Install " + name + " (write); Confirm " + name + " to 1; Hold " + name);
}

TEST_F(GrabPage, BytesBesideACurrentCopyAreNotNeeded) {
  d.give_read(p, 2);
  d.write(p);
  EXPECT_EQ(d.deliver(2, grant(pages({p}), Payload::kMove, 0, true)),
            "Map " + name + " (write); Confirm " + name + " to 1; Hold " + name);
}

TEST_F(GrabPage, ARunIsGrantedAndCompletedAsARun) {
  const PageSet all = run(p, p + 5);
  const std::string text = pages_text(all);
  d.touch(all, Access::kWrite);
  d.deliver(2, grant(all, Payload::kMove, 1, true));
  EXPECT_EQ(d.deliver(3, ack(all)),
            "Map " + text + " (write); Confirm " + text + " to 1; Hold " + text);
}

TEST_F(GrabPage, AfterTheExpiryIsTakenConfirmedAndNotHeld) {
  d.write(p);
  d.expire(p);
  EXPECT_EQ(d.deliver(2, grant(pages({p}), Payload::kMove, 0, true)),
            "Install " + name + " (write); Confirm " + name + " to 1");
  EXPECT_EQ(d.situation(p).page, "Write");
}

TEST_F(GrabPage, ThatExpiresBetweenGrantAndAcknowledgementStillEnds) {
  d.write(p);
  d.deliver(2, grant(pages({p}), Payload::kMove, 1, true));
  EXPECT_EQ(d.expire(p), "Refused " + name + " (TimedOut, blames 1)");
  EXPECT_EQ(d.deliver(3, ack(pages({p}))), "Map " + name + " (write); Confirm " + name + " to 1");
}

TEST_F(GrabPage, ThatNobodyAskedForIsAViolation) {
  EXPECT_EQ(d.deliver(2, grant(pages({p}), Payload::kMove, 0, true)), "violation");
}

TEST_F(GrabPage, GrantedTwiceIsAViolation) {
  d.write(p);
  d.deliver(2, grant(pages({p}), Payload::kMove, 1, true));
  EXPECT_EQ(d.deliver(2, grant(pages({p}), Payload::kMove, 1, true)), "violation");
  EXPECT_EQ(d.state(p), PageState::kStored);
}

TEST_F(GrabPage, WithoutBytesAndWithoutACopyIsAViolation) {
  d.write(p);
  EXPECT_EQ(d.deliver(1, grant(pages({p}), Payload::kNone, 0, false)), "violation");
  EXPECT_EQ(d.situation(p).request, "asked Grab") << "the next view asks again";
}

TEST_F(GrabPage, AnAcknowledgementThatNobodyAwaitsIsAViolation) {
  EXPECT_EQ(d.deliver(2, ack(pages({p}))), "violation");
  d.read(p);
  EXPECT_EQ(d.deliver(2, ack(pages({p}))), "violation") << "a read waits for none";
}

TEST_F(GrabPage, AcknowledgementsForAReadAreAViolation) {
  d.read(p);
  EXPECT_EQ(d.deliver(2, grant(pages({p}), Payload::kMove, 1, true)), "violation");
  EXPECT_EQ(d.situation(p).request, "asked Get");
}

TEST_F(GrabPage, MoreAcknowledgementsThanWereAskedForIsAViolation) {
  d.write(p);
  d.deliver(3, ack(pages({p})));
  d.deliver(2, ack(pages({p})));
  EXPECT_EQ(d.deliver(2, grant(pages({p}), Payload::kMove, 1, true)), "violation");
}

}  // namespace
}  // namespace gob::test
