// flush_page: a page leaves this node's memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/protocol/core_driver.h"

namespace gob::test {
namespace {

// This node is 0; node 1 manages page `p`. Nobody says that it has room.
class FlushPage : public ::testing::Test {
 protected:
  std::string discard(bool confirm) {
    return d.deliver(1, message(MessageType::kFlushDiscard, pages({p}),
                                [=](Message& m) { m.confirm = confirm; }));
  }
  std::string alone(bool sole = true) {
    return d.deliver(
        1, message(MessageType::kFlushAlone, pages({p}), [=](Message& m) { m.sole = sole; }));
  }
  void swapped() {
    d.give_write(p);
    d.flush(p);
    alone();
    d.swapped_out(p, true);
    ASSERT_EQ(d.state(p), PageState::kSwapped);
  }

  const std::uint64_t p = page_of_manager(1, 4);
  const std::string name = std::to_string(p);
  CoreDriver d;
};

TEST_F(FlushPage, AsksTheManagerWhatToDo) {
  d.give_read(p, 2);
  EXPECT_EQ(d.flush(p), "Flush " + name + " to 1");
  EXPECT_EQ(d.situation(p).page, "Read flushing");
  EXPECT_EQ(d.read(p), "Map " + name + " (read)") << "it is still a copy";
}

TEST_F(FlushPage, AsksForARunInOneMessage) {
  const PageSet all = run(p, p + 5);
  d.touch(all, Access::kWrite);
  d.deliver(1, message(MessageType::kGrant, all, [](Message& m) { m.payload = Payload::kZero; }));
  d.step(event::HoldExpired{all});
  EXPECT_EQ(d.step(event::Flush{all}), "Flush " + pages_text(all) + " to 1");
}

TEST_F(FlushPage, AsksOnce) {
  d.give_read(p, 2);
  d.flush(p);
  EXPECT_EQ(d.flush(p), "-");
}

TEST_F(FlushPage, DoesNothingToAPageThatIsNotHereHeldOrWanted) {
  EXPECT_EQ(d.flush(p), "-");
  d.read(p);
  d.deliver(
      2, message(MessageType::kPage, pages({p}), [](Message& m) { m.payload = Payload::kCopy; }));
  EXPECT_EQ(d.flush(p), "-") << "held";
  d.hold_expired(p);
  d.write(p);
  EXPECT_EQ(d.flush(p), "-") << "an upgrade is under way";
}

TEST_F(FlushPage, DropsACopyThatOthersHaveToo) {
  d.give_read(p, 2);
  d.flush(p);
  EXPECT_EQ(discard(true), "Invalidate " + name + "; FlushDone " + name + " to 1");
  EXPECT_EQ(d.state(p), PageState::kInvalid);
  EXPECT_TRUE(d.core().at_rest());
}

TEST_F(FlushPage, TellsTheManagerEvenIfTheCopyWasLostMeanwhile) {
  d.give_read(p, 2);
  d.flush(p);
  d.deliver(
      1, message(MessageType::kInvalidate, pages({p}), [](Message& m) { m.requester = node(3); }));
  EXPECT_EQ(d.situation(p).page, "Invalid flushing");
  EXPECT_EQ(discard(false), "-");
  EXPECT_EQ(d.core().locals().size(), 0u);
}

TEST_F(FlushPage, WritersWaitForTheFlushToEndAndThenAskAfresh) {
  d.give_read(p, 2);
  d.flush(p);
  EXPECT_EQ(d.write(p), "-");
  EXPECT_EQ(d.situation(p).request, "parked Grab");
  EXPECT_EQ(discard(true),
            "Invalidate " + name + "; FlushDone " + name + " to 1; Grab " + name + " to 1");
}

TEST_F(FlushPage, ReadersOfACopyThatWasTakenMeanwhileWaitForTheFlushToEnd) {
  d.give_write(p);
  d.flush(p);
  d.deliver(
      1, message(MessageType::kForwardGrab, pages({p}), [](Message& m) { m.requester = node(2); }));
  EXPECT_EQ(d.read(p), "-");
  EXPECT_EQ(discard(false), "Get " + name + " to 1");
}

TEST_F(FlushPage, WithoutRoomElsewhereTheLastCopyIsSwappedOut) {
  d.give_write(p);
  d.flush(p);
  EXPECT_EQ(alone(), "Downgrade " + name + "; SwapOut " + name);
  EXPECT_EQ(d.state(p), PageState::kSwappingOut);
  EXPECT_EQ(d.core().resident_frames(), 1u);
  EXPECT_EQ(d.swapped_out(p, true), "FlushDone " + name + " (owner 0) to 1");
  EXPECT_EQ(d.state(p), PageState::kSwapped);
  EXPECT_EQ(d.core().resident_frames(), 0u);
  EXPECT_TRUE(d.core().at_rest());
}

TEST_F(FlushPage, ReadersGoOnDuringTheSwapOutAndWritersWait) {
  d.give_write(p);
  d.flush(p);
  alone();
  EXPECT_EQ(d.read(p), "Map " + name + " (read)");
  EXPECT_EQ(d.write(p), "-");
  EXPECT_EQ(d.swapped_out(p, true), "FlushDone " + name + " (owner 0) to 1; SwapIn " + name);
}

TEST_F(FlushPage, ASwapOutThatFailsKeepsThePage) {
  d.give_write(p);
  d.flush(p);
  alone();
  EXPECT_EQ(d.swapped_out(p, false), "FlushDone " + name + " (owner 0) to 1");
  EXPECT_EQ(d.state(p), PageState::kRead);
  EXPECT_TRUE(d.core().at_rest());
}

TEST_F(FlushPage, WithoutSwapTheLastCopyIsKept) {
  d = CoreDriver({.swap = false});
  d.give_write(p);
  d.flush(p);
  EXPECT_EQ(alone(), "Downgrade " + name + "; FlushDone " + name + " (owner 0) to 1");
  EXPECT_EQ(d.state(p), PageState::kRead);
}

TEST_F(FlushPage, ACopyThatMayNotBeTheOnlyOneIsNeverSwappedOut) {
  d.give_read(p, 2);
  d.flush(p);
  EXPECT_EQ(alone(false), "FlushDone " + name + " (owner 0) to 1");
  EXPECT_EQ(d.state(p), PageState::kRead);
}

TEST_F(FlushPage, ATouchBringsASwappedPageBackWritable) {
  swapped();
  EXPECT_EQ(d.read(p), "SwapIn " + name);
  EXPECT_EQ(d.state(p), PageState::kSwappingIn);
  EXPECT_EQ(d.write(p), "-");
  EXPECT_EQ(d.swapped_in(p, true), "FreeSwap " + name + "; Map " + name + " (write); Hold " + name);
  EXPECT_EQ(d.situation(p).page, "Write held");
  EXPECT_EQ(d.core().pending(page(p)), nullptr);
}

TEST_F(FlushPage, ATouchAheadLeavesASwappedPageWhereItIs) {
  swapped();
  EXPECT_EQ(d.touch(pages({p + 1}), Access::kRead, run(p, p + 1).mask),
            "Get " + std::to_string(p + 1) + " to 1");
  EXPECT_EQ(d.state(p), PageState::kSwapped);
}

TEST_F(FlushPage, ASwapInThatFailsTellsTheProgramAndKeepsTheSlot) {
  swapped();
  d.read(p);
  EXPECT_EQ(d.swapped_in(p, false), "Refused " + name + " (Io, blames 0)");
  EXPECT_EQ(d.state(p), PageState::kSwapped);
  EXPECT_EQ(d.core().resident_frames(), 0u);
}

TEST_F(FlushPage, AForwardDuringTheSwapInIsServedAfterTheProgramsTurn) {
  swapped();
  d.read(p);
  d.deliver(
      1, message(MessageType::kForwardGrab, pages({p}), [](Message& m) { m.requester = node(2); }));
  d.swapped_in(p, true);
  EXPECT_EQ(d.situation(p).deferred, 1u) << "the program that waited has its turn first";
  EXPECT_EQ(d.hold_expired(p), "Grant " + name + " (move, confirm) to 2");
}

TEST_F(FlushPage, ASwapInWaitsForAFrame) {
  d = CoreDriver({.budget_frames = 1});
  swapped();
  d.give_write(p + 1);
  EXPECT_EQ(d.situation(p + 1).page, "Write flushing") << "the budget keeps a frame free";
  EXPECT_EQ(d.read(p), "-");
  EXPECT_EQ(d.state(p), PageState::kSwapped);
  EXPECT_EQ(d.deliver(1, message(MessageType::kFlushDiscard, pages({p + 1}))), "violation")
      << "a page written here is nobody else's";
  d.deliver(1,
            message(MessageType::kFlushAlone, pages({p + 1}), [](Message& m) { m.sole = true; }));
  EXPECT_THAT(d.refuse_injections(), ::testing::HasSubstr("SwapOut " + std::to_string(p + 1)));
  EXPECT_EQ(d.swapped_out(p + 1, true),
            "FlushDone " + std::to_string(p + 1) + " (owner 0) to 1; SwapIn " + name);
}

TEST_F(FlushPage, ExpiryDuringTheSwapInTellsTheProgram) {
  swapped();
  d.read(p);
  EXPECT_EQ(d.expire(p), "Refused " + name + " (TimedOut, blames 1)");
  EXPECT_EQ(d.swapped_in(p, true), "FreeSwap " + name) << "nobody waits, nothing is mapped";
  EXPECT_EQ(d.situation(p).page, "Write");
}

TEST_F(FlushPage, AnswersThatNobodyAskedForAreViolations) {
  EXPECT_EQ(discard(true), "violation");
  EXPECT_EQ(alone(), "violation");
  d.give_write(p);
  EXPECT_EQ(alone(), "violation");
  d.flush(p);
  EXPECT_EQ(discard(true), "violation") << "the only copy is never dropped";
  EXPECT_EQ(d.situation(p).page, "Write flushing");
}

TEST_F(FlushPage, LateWordsOfTheLinkerAreIgnored) {
  EXPECT_EQ(d.swapped_out(p, true), "-");
  EXPECT_EQ(d.swapped_in(p, true), "-");
}

}  // namespace
}  // namespace gob::test
