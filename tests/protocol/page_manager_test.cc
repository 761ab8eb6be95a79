// The page manager: one transaction at a time for each page, reads together, the others in turn.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/protocol/core_driver.h"

namespace gob::test {
namespace {

// Node 0 manages page `p`; nodes 1 to 3 ask.
class PageManager : public ::testing::Test {
 protected:
  std::string ask(MessageType type, unsigned from) {
    return d.deliver(from, message(type, pages({p})));
  }
  std::string get(unsigned from) { return ask(MessageType::kGet, from); }
  std::string grab(unsigned from) { return ask(MessageType::kGrab, from); }
  std::string flush(unsigned from) { return ask(MessageType::kFlush, from); }
  std::string confirm(unsigned from, Refusal refusal = Refusal::kNone) {
    return d.deliver(
        from, message(MessageType::kConfirm, pages({p}), [=](Message& m) { m.refusal = refusal; }));
  }
  std::string flush_done(unsigned from, NodeId owner) {
    return d.deliver(
        from, message(MessageType::kFlushDone, pages({p}), [=](Message& m) { m.node = owner; }));
  }
  // Node 1 made the page, nodes of `readers` read it since.
  void owned_by_1(std::initializer_list<unsigned> readers = {}) {
    grab(1);
    for (unsigned reader : readers) {
      get(reader);
      confirm(reader);
    }
  }
  std::string entry() const { return d.situation(p).entry; }
  std::string transaction() const { return d.situation(p).transaction; }

  const std::uint64_t p = page_of_manager(0, 4);
  const std::string name = std::to_string(p);
  CoreDriver d;
};

TEST_F(PageManager, KeepsNothingOfAPageThatNobodyTouched) {
  EXPECT_EQ(d.core().entry(page(p)), std::nullopt);
  EXPECT_EQ(d.core().directory().memory_bytes(), 0u);
}

TEST_F(PageManager, GrantsAFirstTouchWithoutBytesOrConfirmation) {
  EXPECT_EQ(get(1), "Grant " + name + " (zero) to 1");
  EXPECT_EQ(entry(), "owner 1, copies 1");
  EXPECT_EQ(transaction(), "");
}

TEST_F(PageManager, ForwardsAReadToTheOwner) {
  owned_by_1();
  EXPECT_EQ(get(2), "ForwardGet " + name + " (for 2) to 1");
  EXPECT_EQ(transaction(), "Get for 2");
  EXPECT_EQ(confirm(2), "-");
  EXPECT_EQ(entry(), "owner 1, copies 1 2");
  EXPECT_EQ(transaction(), "");
}

TEST_F(PageManager, LetsReadsShareATransaction) {
  owned_by_1();
  get(2);
  EXPECT_EQ(get(3), "ForwardGet " + name + " (for 3) to 1");
  EXPECT_EQ(transaction(), "Get for 2 3");
  confirm(3);
  EXPECT_EQ(transaction(), "Get for 2");
  confirm(2);
  EXPECT_EQ(entry(), "owner 1, copies 1 2 3");
}

TEST_F(PageManager, MakesAWriteWaitForTheReads) {
  owned_by_1();
  get(2);
  EXPECT_EQ(grab(3), "-");
  EXPECT_EQ(transaction(), "Get for 2, queued Grab of 3");
  EXPECT_EQ(confirm(2),
            "Invalidate " + name + " (for 3) to 2; ForwardGrab " + name + " (1 ack, for 3) to 1");
  EXPECT_EQ(transaction(), "Grab for 3");
}

TEST_F(PageManager, LetsNoReadPassAWaitingWrite) {
  owned_by_1();
  get(2);
  grab(3);
  EXPECT_EQ(get(1), "-");
  EXPECT_EQ(transaction(), "Get for 2, queued Grab of 3 Get of 1");
}

TEST_F(PageManager, StartsTheReadsThatWaitedTogether) {
  owned_by_1();
  grab(2);
  get(3);
  get(1);
  EXPECT_EQ(transaction(), "Grab for 2, queued Get of 3 Get of 1");
  EXPECT_EQ(confirm(2),
            "ForwardGet " + name + " (for 3) to 2; ForwardGet " + name + " (for 1) to 2");
  EXPECT_EQ(transaction(), "Get for 3 1");
}

TEST_F(PageManager, TakesTheOnlyCopyByAForwardedGrab) {
  owned_by_1();
  EXPECT_EQ(grab(2), "ForwardGrab " + name + " (for 2) to 1");
  EXPECT_EQ(confirm(2), "-");
  EXPECT_EQ(entry(), "owner 2, copies 2");
}

TEST_F(PageManager, InvalidatesAllOthersInParallelWithTheGrab) {
  owned_by_1({2});
  EXPECT_EQ(grab(3),
            "Invalidate " + name + " (for 3) to 2; ForwardGrab " + name + " (1 ack, for 3) to 1");
}

TEST_F(PageManager, UpgradesAReaderWithoutBytes) {
  owned_by_1({2, 3});
  EXPECT_EQ(grab(2), "Invalidate " + name + " (for 2) to 1; Invalidate " + name +
                         " (for 2) to 3; Grant " + name + " (2 acks, confirm) to 2");
  confirm(2);
  EXPECT_EQ(entry(), "owner 2, copies 2");
}

TEST_F(PageManager, UpgradesTheOnlyHolderWithoutATransaction) {
  owned_by_1();
  EXPECT_EQ(grab(1), "Grant " + name + " to 1");
  EXPECT_EQ(transaction(), "");
}

TEST_F(PageManager, ServesAReadFromItsOwnCopyInTwoHops) {
  d.give_write(p);
  EXPECT_EQ(get(2), "Downgrade " + name + "; Page " + name + " (copy) to 2");
  EXPECT_EQ(entry(), "owner 0, copies 0 2");
  EXPECT_EQ(transaction(), "") << "what follows on the channel follows the page";
  EXPECT_EQ(get(3), "Page " + name + " (copy) to 3");
}

TEST_F(PageManager, GivesItsOwnOnlyCopyAwayInTwoHops) {
  d.give_write(p);
  EXPECT_EQ(grab(2), "Grant " + name + " (move) to 2");
  EXPECT_EQ(entry(), "owner 2, copies 2");
  EXPECT_EQ(transaction(), "");
  EXPECT_EQ(d.state(p), PageState::kInvalid);
}

TEST_F(PageManager, GivesItsOwnCopyAwayWhileAReaderIsInvalidated) {
  d.give_write(p);
  get(2);
  EXPECT_EQ(grab(3),
            "Invalidate " + name + " (for 3) to 2; Grant " + name + " (move, 1 ack, confirm) to 3");
  EXPECT_EQ(transaction(), "Grab for 3");
}

TEST_F(PageManager, HeldCopyOfItsOwnMakesTheRequestWait) {
  d.write(p);
  EXPECT_EQ(d.situation(p).page, "Write held");
  EXPECT_EQ(get(2), "-");
  EXPECT_EQ(d.situation(p).deferred, 1u);
  EXPECT_EQ(d.hold_expired(p), "Downgrade " + name + "; Page " + name + " (copy, confirm) to 2");
  EXPECT_EQ(transaction(), "Get for 2");
}

TEST_F(PageManager, AnswersAReaderThatHoldsThePageAlready) {
  owned_by_1({2});
  EXPECT_EQ(get(2), "Page " + name + " to 2");
  EXPECT_EQ(transaction(), "");
}

TEST_F(PageManager, SkipsAReadAheadOfAPageInTransit) {
  owned_by_1();
  get(2);
  EXPECT_EQ(d.deliver(3, message(MessageType::kGet, pages({p}),
                                 [&](Message& m) { m.ahead = m.pages.mask; })),
            "Refuse " + name + " (Skipped, blames 0) to 3");
}

TEST_F(PageManager, SkipsAReadAheadOfAPageThatDoesNotExist) {
  EXPECT_EQ(d.deliver(3, message(MessageType::kGet, pages({p}),
                                 [&](Message& m) { m.ahead = m.pages.mask; })),
            "Refuse " + name + " (Skipped, blames 0) to 3");
  EXPECT_EQ(d.core().entry(page(p)), std::nullopt);
}

TEST_F(PageManager, CreatesAheadForAWriterUnlessToldNotTo) {
  const Message ahead =
      message(MessageType::kGrab, pages({p}), [&](Message& m) { m.ahead = m.pages.mask; });
  EXPECT_EQ(d.deliver(3, ahead), "Grant " + name + " (zero) to 3");
  CoreDriver careful({.create_ahead = false});
  EXPECT_EQ(careful.deliver(3, ahead), "Refuse " + name + " (Skipped, blames 0) to 3");
}

TEST_F(PageManager, AnswersARunPageByPageAndInRuns) {
  const PageSet all = run(p, p + 7);
  EXPECT_EQ(d.deliver(1, message(MessageType::kGrab, all)),
            "Grant " + pages_text(all) + " (zero) to 1");
  EXPECT_EQ(d.deliver(2, message(MessageType::kGet, all)),
            "ForwardGet " + pages_text(all) + " (for 2) to 1");
  EXPECT_EQ(d.deliver(3, message(MessageType::kGrab, run(p + 8, p + 9))),
            "Grant " + pages_text(run(p + 8, p + 9)) + " (zero) to 3");
  EXPECT_EQ(d.deliver(1, message(MessageType::kGet, run(p + 6, p + 9))),
            "Page " + pages_text(run(p + 6, p + 7)) + " to 1; ForwardGet " +
                pages_text(run(p + 8, p + 9)) + " (for 1) to 3");
}

TEST_F(PageManager, ARefusedGrabLeavesThePageWithItsOwnerAlone) {
  owned_by_1({2});
  grab(3);
  EXPECT_EQ(confirm(3, Refusal::kIo), "-");
  EXPECT_EQ(entry(), "owner 1, copies 1") << "node 2 was told to drop its copy";
  EXPECT_EQ(transaction(), "");
}

TEST_F(PageManager, ARefusedReadAddsNoCopy) {
  owned_by_1();
  get(2);
  confirm(2, Refusal::kIo);
  EXPECT_EQ(entry(), "owner 1, copies 1");
}

TEST_F(PageManager, ServesItsOwnProgramsLikeAnyOther) {
  owned_by_1();
  EXPECT_EQ(d.read(p), "ForwardGet " + name + " (for 0) to 1");
  EXPECT_EQ(transaction(), "Get for 0");
  EXPECT_EQ(d.deliver(1, message(MessageType::kPage, pages({p}),
                                 [](Message& m) {
                                   m.payload = Payload::kCopy;
                                   m.confirm = true;
                                 })),
            "Install " + name + " (read); Hold " + name)
      << "its confirmation is part of the step";
  EXPECT_EQ(entry(), "owner 1, copies 0 1");
  EXPECT_EQ(transaction(), "");
}

TEST_F(PageManager, GivesItsOwnReadableCopyAwayAndInvalidatesTheOwner) {
  owned_by_1();
  d.give_read(p, 1);
  EXPECT_EQ(grab(2),
            "Invalidate " + name + " (for 2) to 1; Grant " + name + " (move, 1 ack, confirm) to 2");
  EXPECT_EQ(d.state(p), PageState::kInvalid);
}

TEST_F(PageManager, InvalidatesItsOwnHeldCopyOnlyAfterItsTurn) {
  owned_by_1();
  d.read(p);
  d.deliver(1, message(MessageType::kPage, pages({p}), [](Message& m) {
              m.payload = Payload::kCopy;
              m.confirm = true;
            }));
  EXPECT_EQ(grab(2), "ForwardGrab " + name + " (1 ack, for 2) to 1");
  EXPECT_EQ(d.situation(p).page, "Read held");
  EXPECT_EQ(d.hold_expired(p), "Invalidate " + name + "; InvalidateAck " + name + " (for 2) to 2");
}

TEST_F(PageManager, GivesTheFlusherOfAReaderLeaveToDropIt) {
  owned_by_1({2});
  EXPECT_EQ(flush(2), "FlushDiscard " + name + " (confirm) to 2");
  EXPECT_EQ(entry(), "owner 1, copies 1 2") << "it counts until it is gone";
  EXPECT_EQ(flush_done(2, kNoNode), "-");
  EXPECT_EQ(entry(), "owner 1, copies 1");
}

TEST_F(PageManager, NoWriteBeginsWhileACopyIsBeingDropped) {
  owned_by_1({2});
  flush(2);
  EXPECT_EQ(grab(3), "-");
  EXPECT_EQ(flush_done(2, kNoNode), "ForwardGrab " + name + " (for 3) to 1");
}

TEST_F(PageManager, PassesOwnershipToAnotherHolderWhenTheOwnerFlushes) {
  owned_by_1({2, 3});
  EXPECT_EQ(flush(1), "FlushDiscard " + name + " (confirm) to 1");
  flush_done(1, kNoNode);
  EXPECT_EQ(entry(), "owner 2, copies 2 3");
}

TEST_F(PageManager, PrefersItselfAsHeir) {
  owned_by_1({3});
  d.give_read(p, 1);
  flush(1);
  flush_done(1, kNoNode);
  EXPECT_EQ(entry(), "owner 0, copies 0 3");
}

TEST_F(PageManager, TellsTheLastHolderThatItIsAlone) {
  owned_by_1();
  EXPECT_EQ(flush(1), "FlushAlone " + name + " (sole) to 1");
  EXPECT_EQ(transaction(), "Flush for 1");
}

TEST_F(PageManager, FollowsAnInjectedPage) {
  owned_by_1();
  flush(1);
  EXPECT_EQ(flush_done(1, node(3)), "-");
  EXPECT_EQ(entry(), "owner 3, copies 3");
  EXPECT_EQ(transaction(), "");
}

TEST_F(PageManager, FollowsAPageThatWasSwappedOut) {
  owned_by_1();
  flush(1);
  flush_done(1, node(1));
  EXPECT_EQ(entry(), "owner 1, copies 1");
}

TEST_F(PageManager, MakesRequestsWaitForAFlush) {
  owned_by_1();
  flush(1);
  EXPECT_EQ(get(2), "-");
  EXPECT_EQ(grab(3), "-");
  EXPECT_EQ(flush_done(1, node(3)), "ForwardGet " + name + " (for 2) to 3");
  EXPECT_EQ(transaction(), "Get for 2, queued Grab of 3");
}

TEST_F(PageManager, TellsAFlusherThatLostItsCopyMeanwhileToGoOn) {
  owned_by_1();
  grab(2);
  EXPECT_EQ(flush(1), "-");
  EXPECT_EQ(confirm(2), "FlushDiscard " + name + " to 1");
  EXPECT_EQ(transaction(), "");
}

TEST_F(PageManager, FlushOfAPageThatDoesNotExistIsADiscard) {
  EXPECT_EQ(flush(1), "FlushDiscard " + name + " to 1");
  EXPECT_EQ(d.core().entry(page(p)), std::nullopt);
}

TEST_F(PageManager, ASecondRequestBeforeTheFirstHasEndedIsAViolation) {
  owned_by_1();
  get(2);
  EXPECT_EQ(get(2), "violation");
  EXPECT_EQ(grab(2), "violation");
  grab(3);
  EXPECT_EQ(get(3), "violation") << "the first one waits its turn";
  EXPECT_EQ(transaction(), "Get for 2, queued Grab of 3");
}

TEST_F(PageManager, AFlushMayWaitBesideARequestOfTheSameNode) {
  owned_by_1();
  grab(2);
  EXPECT_EQ(flush(1), "-");
  EXPECT_EQ(flush(1), "violation");
  EXPECT_EQ(get(1), "-") << "the copy was taken, and a program wants it back";
  EXPECT_EQ(transaction(), "Grab for 2, queued Flush of 1 Get of 1");
}

TEST_F(PageManager, EveryQueuedRequestIsServedInTurn) {
  owned_by_1();
  grab(2);
  grab(3);
  grab(1);
  EXPECT_EQ(confirm(2), "ForwardGrab " + name + " (for 3) to 2");
  EXPECT_EQ(confirm(3), "ForwardGrab " + name + " (for 1) to 3");
  EXPECT_EQ(confirm(1), "-");
  EXPECT_EQ(entry(), "owner 1, copies 1");
  EXPECT_TRUE(d.core().at_rest());
}

}  // namespace
}  // namespace gob::test
