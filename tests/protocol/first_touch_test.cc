// The requester's beginning: a program touches a page, waits, gives up.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/protocol/core_driver.h"

namespace gob::test {
namespace {

// Four nodes; this is node 0. Page `mine` is managed here, page `theirs` by node 1.
class FirstTouch : public ::testing::Test {
 protected:
  const std::uint64_t mine = page_of_manager(0, 4);
  const std::uint64_t theirs = page_of_manager(1, 4);
  CoreDriver d;
};

TEST_F(FirstTouch, NeedsNoMessageWhereTheRequesterIsTheManager) {
  const std::string p = std::to_string(mine);
  EXPECT_EQ(d.read(mine), "Install " + p + " (write, zero); Hold " + p);
  EXPECT_EQ(d.state(mine), PageState::kWrite);
  EXPECT_EQ(d.situation(mine).entry, "owner 0, copies 0");
  EXPECT_EQ(d.core().transaction(page(mine)), nullptr);
}

TEST_F(FirstTouch, GivesWriteAccessAtOnceEvenToAReader) {
  d.read(theirs);
  EXPECT_EQ(d.situation(theirs).request, "asked Get");
  const std::string p = std::to_string(theirs);
  EXPECT_EQ(d.deliver(1, message(MessageType::kGrant, pages({theirs}),
                                 [](Message& m) { m.payload = Payload::kZero; })),
            "Install " + p + " (write, zero); Hold " + p);
  EXPECT_EQ(d.state(theirs), PageState::kWrite);
}

TEST_F(FirstTouch, AsksTheManagerOnceHoweverManyProgramsWait) {
  const std::string p = std::to_string(theirs);
  EXPECT_EQ(d.read(theirs), "Get " + p + " to 1");
  EXPECT_EQ(d.read(theirs), "-");
  EXPECT_EQ(d.write(theirs), "-") << "what is asked for cannot change any more";
  EXPECT_EQ(d.situation(theirs).request, "asked Get");
}

TEST_F(FirstTouch, AnswersAHitWithoutAnyMessage) {
  d.give_write(theirs);
  const std::string p = std::to_string(theirs);
  EXPECT_EQ(d.read(theirs), "Map " + p + " (write)");
  EXPECT_EQ(d.write(theirs), "Map " + p + " (write)");
  EXPECT_TRUE(d.core().local(page(theirs)).referenced);
}

TEST_F(FirstTouch, AReadHitOnAReadableCopyMapsItReadable) {
  d.give_read(theirs, 2);
  EXPECT_EQ(d.read(theirs), "Map " + std::to_string(theirs) + " (read)");
  EXPECT_EQ(d.write(theirs), "Grab " + std::to_string(theirs) + " to 1");
}

TEST_F(FirstTouch, AsksForARunInOneMessage) {
  EXPECT_EQ(d.touch(run(theirs, theirs + 7), Access::kRead),
            "Get " + pages_text(run(theirs, theirs + 7)) + " to 1");
}

TEST_F(FirstTouch, MarksPagesAskedForAheadOfNeed) {
  const PageSet all = run(theirs, theirs + 3);
  EXPECT_EQ(
      d.touch(pages({theirs}), Access::kRead, all.mask),
      "Get " + pages_text(all) + " (ahead " + pages_text(run(theirs + 1, theirs + 3)) + ") to 1");
  EXPECT_EQ(d.situation(theirs).request, "asked Get");
  EXPECT_EQ(d.situation(theirs + 1).request, "asked Get ahead");
}

TEST_F(FirstTouch, TouchingAPageAskedForAheadMakesItWanted) {
  d.touch(pages({theirs}), Access::kRead, run(theirs, theirs + 1).mask);
  EXPECT_EQ(d.read(theirs + 1), "-");
  EXPECT_EQ(d.situation(theirs + 1).request, "asked Get");
}

TEST_F(FirstTouch, APageAskedForAheadThatIsHereCostsNothing) {
  d.give_write(theirs + 1);
  EXPECT_EQ(d.touch(pages({theirs}), Access::kRead, run(theirs, theirs + 1).mask),
            "Get " + std::to_string(theirs) + " to 1");
}

TEST_F(FirstTouch, ASkippedPageIsNobodysLoss) {
  d.touch(pages({theirs}), Access::kRead, run(theirs, theirs + 1).mask);
  EXPECT_EQ(d.deliver(1, message(MessageType::kRefuse, pages({theirs + 1}),
                                 [](Message& m) { m.refusal = Refusal::kSkipped; })),
            "-");
  EXPECT_EQ(d.core().pending(page(theirs + 1)), nullptr);
}

TEST_F(FirstTouch, ASkippedPageThatSomebodyCameToNeedIsAskedForAgain) {
  d.touch(pages({theirs}), Access::kRead, run(theirs, theirs + 1).mask);
  d.write(theirs + 1);
  EXPECT_EQ(d.deliver(1, message(MessageType::kRefuse, pages({theirs + 1}),
                                 [](Message& m) { m.refusal = Refusal::kSkipped; })),
            "Grab " + std::to_string(theirs + 1) + " to 1");
}

TEST_F(FirstTouch, ARefusalReachesTheProgramWithItsReason) {
  d.read(theirs);
  EXPECT_EQ(d.deliver(1, message(MessageType::kRefuse, pages({theirs}),
                                 [](Message& m) {
                                   m.refusal = Refusal::kLost;
                                   m.node = node(3);
                                 })),
            "Refused " + std::to_string(theirs) + " (Lost, blames 3)");
  EXPECT_TRUE(d.core().at_rest());
}

TEST_F(FirstTouch, ARefusalThatTheManagerWaitsForIsConfirmed) {
  d.write(theirs);
  const std::string p = std::to_string(theirs);
  EXPECT_EQ(d.deliver(2, message(MessageType::kRefuse, pages({theirs}),
                                 [](Message& m) {
                                   m.refusal = Refusal::kIo;
                                   m.node = node(2);
                                   m.confirm = true;
                                 })),
            "Confirm " + p + " (Io) to 1; Refused " + p + " (Io, blames 2)");
}

TEST_F(FirstTouch, ARefusalWaitsForTheAcknowledgementsOfThoseAlreadyTold) {
  d.write(theirs);
  const std::string p = std::to_string(theirs);
  EXPECT_EQ(d.deliver(2, message(MessageType::kRefuse, pages({theirs}),
                                 [](Message& m) {
                                   m.refusal = Refusal::kIo;
                                   m.node = node(2);
                                   m.confirm = true;
                                   m.acks = 1;
                                 })),
            "-");
  EXPECT_EQ(d.situation(theirs).request, "refused, 1 ack missing");
  EXPECT_EQ(d.deliver(3, message(MessageType::kInvalidateAck, pages({theirs}))),
            "Confirm " + p + " (Io) to 1; Refused " + p + " (Io, blames 2)");
}

TEST_F(FirstTouch, ARefusalThatForgetsAcknowledgementsIsAViolation) {
  d.write(theirs);
  d.deliver(3, message(MessageType::kInvalidateAck, pages({theirs})));
  EXPECT_EQ(d.deliver(2, message(MessageType::kRefuse, pages({theirs}),
                                 [](Message& m) { m.refusal = Refusal::kIo; })),
            "violation");
  EXPECT_EQ(d.situation(theirs).request, "asked Grab, 1 ack early");
}

TEST_F(FirstTouch, BeyondTheEndIsRefusedHere) {
  EXPECT_EQ(d.read(kContainerPages),
            "Refused " + std::to_string(kContainerPages) + " (Range, blames 0)");
  EXPECT_TRUE(d.core().at_rest());
}

TEST_F(FirstTouch, OfAnUnknownContainerIsRefusedHere) {
  EXPECT_EQ(d.step(event::Touch{PageSet{ContainerId{9}, 0, 1}, Access::kRead}),
            "Refused 0 (Removed, blames 0)");
}

TEST_F(FirstTouch, BeyondTheEndAheadOfNeedIsNobodysLoss) {
  const std::uint64_t last = kContainerPages - 1;
  CoreDriver one({.nodes = 1});
  one.step(event::AddContainer{{ContainerId{2}, 3, Epoch{1}, kNoNode}});
  EXPECT_EQ(one.step(event::Touch{PageSet{ContainerId{2}, 0, 1}, Access::kWrite, 0xff}),
            "Install 0-2 (write, zero); Hold 0");
  EXPECT_NE(d.read(last), "-");
}

TEST_F(FirstTouch, AnExpiredRequestTellsTheProgramAndStaysUnderWay) {
  d.read(theirs);
  const std::string p = std::to_string(theirs);
  EXPECT_EQ(d.expire(theirs), "Refused " + p + " (TimedOut, blames 1)");
  EXPECT_EQ(d.situation(theirs).request, "asked Get ahead");
  EXPECT_EQ(d.expire(theirs), "-") << "nobody waits any more";
}

TEST_F(FirstTouch, BytesThatComeAfterTheExpiryAreInstalledAndConfirmed) {
  d.read(theirs);
  d.expire(theirs);
  const std::string p = std::to_string(theirs);
  EXPECT_EQ(d.deliver(2, message(MessageType::kPage, pages({theirs}),
                                 [](Message& m) {
                                   m.payload = Payload::kCopy;
                                   m.confirm = true;
                                 })),
            "Install " + p + " (read); Confirm " + p + " to 1")
      << "no hold: nobody is waiting";
  EXPECT_EQ(d.state(theirs), PageState::kRead);
}

TEST_F(FirstTouch, TouchingAgainAfterTheExpiryWaitsForTheSameAnswer) {
  d.read(theirs);
  d.expire(theirs);
  EXPECT_EQ(d.read(theirs), "-");
  EXPECT_EQ(d.situation(theirs).request, "asked Get");
}

TEST_F(FirstTouch, BeforeTheFirstViewWaitsForIt) {
  CoreDriver early({.nodes = 4, .serving = false});
  early.step(event::AddContainer{{kContainer, kContainerPages, Epoch{1}, kNoNode}});
  EXPECT_EQ(early.read(theirs), "-");
  EXPECT_EQ(early.situation(theirs).request, "parked Get");
  early.new_view(view_of(1, 4));
  early.finish_view(false);
  EXPECT_EQ(early.situation(theirs).request, "asked Get");
}

TEST_F(FirstTouch, BeforeTheFirstViewMayExpire) {
  CoreDriver early({.nodes = 4, .serving = false});
  early.step(event::AddContainer{{kContainer, kContainerPages, Epoch{1}, kNoNode}});
  early.read(theirs);
  EXPECT_THAT(early.expire(theirs), ::testing::StartsWith("Refused"));
  EXPECT_EQ(early.core().pending(page(theirs)), nullptr);
}

TEST_F(FirstTouch, WithoutAFreeFrameWaitsForRoom) {
  CoreDriver tight({.nodes = 4, .budget_frames = 2, .swap = false});
  tight.give_write(theirs);
  tight.give_write(theirs + 1);
  tight.read(theirs + 2);
  EXPECT_EQ(tight.situation(theirs + 2).request, "parked Get");
  // One of the two is flushed and turns out to be held by others as well.
  tight.deliver(1, message(MessageType::kForwardGet, pages({theirs}),
                           [](Message& m) { m.requester = node(2); }));
  tight.step(event::Flush{pages({theirs, theirs + 1})});
  const std::string answer = tight.deliver(1, message(MessageType::kFlushDiscard, pages({theirs}),
                                                      [](Message& m) { m.confirm = true; }));
  EXPECT_THAT(answer, ::testing::HasSubstr("Invalidate " + std::to_string(theirs)));
  EXPECT_THAT(answer, ::testing::HasSubstr("Get " + std::to_string(theirs + 2) + " to 1"));
}

TEST_F(FirstTouch, ExpiresWithNoRoomWhenThereIsNone) {
  CoreDriver tight({.nodes = 1, .budget_frames = 1, .swap = false});
  tight.write(0);
  tight.read(1);
  EXPECT_EQ(tight.situation(1).request, "parked Get");
  EXPECT_EQ(tight.expire(1), "Refused 1 (NoRoom, blames 0)");
  EXPECT_EQ(tight.core().pending(page(1)), nullptr);
}

TEST_F(FirstTouch, AheadOfNeedNeverWaitsForRoom) {
  CoreDriver tight({.nodes = 4, .budget_frames = 2, .swap = false});
  const PageSet all = run(theirs, theirs + 5);
  EXPECT_EQ(tight.touch(pages({theirs}), Access::kRead, all.mask),
            "Get " + pages_text(run(theirs, theirs + 1)) + " (ahead " + std::to_string(theirs + 1) +
                ") to 1");
}

TEST_F(FirstTouch, PromisedFramesAreNotOfferedToOthers) {
  CoreDriver small({.nodes = 4, .budget_frames = 100});
  small.touch(run(theirs, theirs + 9), Access::kRead);
  EXPECT_EQ(small.core().free_frames(), 100u);
  small.deliver(1, message(MessageType::kInvalidate, pages({theirs + 20}),
                           [](Message& m) { m.requester = node(2); }));
  EXPECT_EQ(small.last_hint(), 90u);
}

}  // namespace
}  // namespace gob::test
