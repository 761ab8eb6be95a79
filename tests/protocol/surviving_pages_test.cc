// View changes: which pages survive, which are lost, and what old messages are still worth.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/protocol/view_change.h"

namespace gob::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

using SurvivingPages = ViewChange;

TEST_F(SurvivingPages, TheHolderWithTheLowestIdBecomesOwnerWhateverTheOrder) {
  const std::uint64_t p = page_in_view_2(0);
  to_rebuilding();
  report(2, pages({p}), Holding::kRead);
  EXPECT_EQ(d.situation(p).entry, "owner 2, copies 2");
  report(1, pages({p}), Holding::kRead);
  EXPECT_EQ(d.situation(p).entry, "owner 1, copies 1 2");
}

TEST_F(SurvivingPages, APageThatExistedAndThatNobodyHoldsIsLost) {
  const std::uint64_t p = page_in_view_2(0);
  to_rebuilding();
  report(1, pages({p}), Holding::kExisted);
  report_end(1);
  report_end(2);
  EXPECT_EQ(d.situation(p).entry, "lost with 3");
  EXPECT_EQ(get_from_1(p), "Refuse " + std::to_string(p) + " (Lost, blames 3) to 1");
  EXPECT_EQ(d.deliver(1, message(MessageType::kGrab, pages({p}))),
            "Refuse " + std::to_string(p) + " (Lost, blames 3) to 1")
      << "never zeros";
  EXPECT_EQ(d.deliver(1, message(MessageType::kFlush, pages({p}))),
            "FlushDiscard " + std::to_string(p) + " to 1");
}

TEST_F(SurvivingPages, ALostPageStaysLostAndKeepsItsBlame) {
  const std::uint64_t p = page_in_view_2(0);
  to_rebuilding();
  report(1, pages({p}), Holding::kLost, 2, node(9));
  report_end(1);
  report_end(2);
  EXPECT_EQ(d.situation(p).entry, "lost with 9");
  EXPECT_THAT(d.new_view(view_of(3, 4, {3})), HasSubstr("Marker"));
  mark(1, 3);
  const std::string text = mark(2, 3);
  // It is told on to whoever manages the page now, this node included.
  EXPECT_EQ(d.situation(p).entry, "lost with 9");
  EXPECT_THAT(text, Not(HasSubstr("existed")));
}

TEST_F(SurvivingPages, ACopyAnywhereSavesALostPage) {
  const std::uint64_t p = page_in_view_2(0);
  to_rebuilding();
  report(1, pages({p}), Holding::kLost, 2, node(9));
  report(2, pages({p}), Holding::kRead);
  EXPECT_EQ(d.situation(p).entry, "owner 2, copies 2");
  report(1, pages({p}), Holding::kLost, 2, node(9));
  EXPECT_EQ(d.situation(p).entry, "owner 2, copies 2") << "whatever the order";
}

TEST_F(SurvivingPages, APageOfADeadManagerThatNobodyReportedIsNeverAnsweredWithZeros) {
  const std::uint64_t p = page_from_to(3, 0);
  to_serving();
  EXPECT_EQ(d.core().entry(page(p)), std::nullopt);
  EXPECT_EQ(get_from_1(p), "Refuse " + std::to_string(p) + " (Lost, blames 3) to 1");
  EXPECT_EQ(d.core().entry(page(p)), std::nullopt) << "and costs no memory";
}

TEST_F(SurvivingPages, AContainerMadeAfterTheLossIsNotHaunted) {
  const std::uint64_t p = page_from_to(3, 0);
  to_serving();
  d.step(event::AddContainer{{ContainerId{2}, kContainerPages, Epoch{2}, kNoNode}});
  const View view = d.core().view();
  const View old_view = view_of(1, 4);
  std::uint64_t stripe = 0;
  while (old_view.manager(ContainerId{2}, stripe) != node(3) ||
         view.manager(ContainerId{2}, stripe) != node(0))
    ++stripe;
  EXPECT_THAT(d.deliver(1, message(MessageType::kGet, PageSet{ContainerId{2}, stripe, 1})),
              HasSubstr("(zero) to 1"));
  EXPECT_THAT(get_from_1(p), HasSubstr("Lost"));
}

TEST_F(SurvivingPages, APageOfALivingManagerThatNobodyTouchedIsStillZeros) {
  const std::uint64_t p = page_from_to(1, 0);
  to_serving();
  EXPECT_EQ(get_from_1(p), "Grant " + std::to_string(p) + " (zero) to 1");
}

TEST_F(SurvivingPages, BytesOfTheOldViewAreAbsorbed) {
  const std::uint64_t p = page_from_to(1, 1);
  d.write(p);
  to_view_2();
  EXPECT_EQ(late(2, MessageType::kGrant, p,
                 [](Message& m) {
                   m.payload = Payload::kMove;
                   m.acks = 1;
                   m.confirm = true;
                 }),
            "Install " + std::to_string(p) + " (unmapped)");
  EXPECT_EQ(d.state(p), PageState::kRead) << "perhaps the last copy, certainly current";
  mark(1, 2);
  EXPECT_EQ(mark(2, 2), "Report " + std::to_string(p) +
                            " (read) to 1; ReportEnd to 1; ReportEnd to 2; Grab " +
                            std::to_string(p) + " to 1");
}

TEST_F(SurvivingPages, InjectedBytesOfTheOldViewAreAbsorbed) {
  const std::uint64_t p = page_from_to(1, 1);
  to_view_2();
  EXPECT_EQ(late(2, MessageType::kInject, p, [](Message& m) { m.payload = Payload::kCopy; }),
            "Install " + std::to_string(p) + " (unmapped)");
  EXPECT_EQ(late(1, MessageType::kPage, p, [](Message& m) { m.payload = Payload::kCopy; }), "-")
      << "one copy is enough";
}

TEST_F(SurvivingPages, NothingElseOfTheOldViewCounts) {
  const std::uint64_t p = page_from_to(1, 1);
  d.give_read(p, 2);
  to_view_2();
  const Core before = d.core();
  for (auto type = MessageType::kGet; type <= kLastMessageType;
       type = static_cast<MessageType>(static_cast<int>(type) + 1)) {
    if (type == MessageType::kMarker || type == MessageType::kReport) continue;
    EXPECT_EQ(late(1, type, p, [](Message& m) { m.requester = node(2); }), "-")
        << type_name(type) << ": not even an invalidation, since nobody will write on its account";
    EXPECT_TRUE(d.core() == before) << type_name(type);
  }
}

TEST_F(SurvivingPages, BytesBehindTheMarkerAreIgnored) {
  const std::uint64_t p = page_from_to(1, 1);
  to_view_2();
  mark(2, 2);
  EXPECT_EQ(late(2, MessageType::kInject, p, [](Message& m) { m.payload = Payload::kCopy; }), "-");
  EXPECT_EQ(d.state(p), PageState::kInvalid);
}

TEST_F(SurvivingPages, ADeadNodesLastWordsAreIgnored) {
  const std::uint64_t p = page_from_to(1, 1);
  to_view_2();
  EXPECT_EQ(late(3, MessageType::kInject, p, [](Message& m) { m.payload = Payload::kCopy; }), "-");
  to_view_2();
  d.finish_view();
  EXPECT_EQ(d.deliver(3, message(MessageType::kGet, pages({p}))), "-");
}

TEST_F(SurvivingPages, BytesFromAViewThatHasNotBegunAreAViolation) {
  const std::uint64_t p = page_from_to(1, 1);
  EXPECT_EQ(d.deliver(1, message(MessageType::kInject, pages({p}),
                                 [](Message& m) {
                                   m.payload = Payload::kCopy;
                                   m.epoch = Epoch{2};
                                 })),
            "violation");
  to_view_2();
  mark(1, 2);
  EXPECT_EQ(d.deliver(1, message(MessageType::kInject, pages({p}),
                                 [](Message& m) {
                                   m.payload = Payload::kCopy;
                                   m.epoch = Epoch{2};
                                 })),
            "violation")
      << "a peer cannot serve before this node has reported";
}

TEST_F(SurvivingPages, BytesThatWaitedForAcknowledgementsAreReadable) {
  const std::uint64_t p = page_from_to(1, 1);
  d.write(p);
  d.deliver(2, message(MessageType::kGrant, pages({p}), [](Message& m) {
              m.payload = Payload::kMove;
              m.acks = 1;
              m.confirm = true;
            }));
  ASSERT_EQ(d.state(p), PageState::kStored);
  to_view_2();
  EXPECT_EQ(d.state(p), PageState::kRead);
  EXPECT_EQ(d.situation(p).request, "parked Grab");
}

TEST_F(SurvivingPages, APageOnOfferIsKept) {
  const std::uint64_t p = page_from_to(1, 1);
  d.deliver(2, message(MessageType::kInvalidate, pages({p + 1}), [](Message& m) {
              m.requester = node(2);
              m.free_frames = 500;
            }));
  d.give_write(p);
  d.flush(p);
  d.deliver(1, message(MessageType::kFlushAlone, pages({p}), [](Message& m) { m.sole = true; }));
  ASSERT_EQ(d.state(p), PageState::kInjecting);
  to_view_2();
  EXPECT_EQ(d.situation(p).page, "Read");
}

TEST_F(SurvivingPages, ASwapOutUnderWayEndsWithoutAWordToTheManager) {
  const std::uint64_t p = page_from_to(1, 1);
  d.give_write(p);
  d.flush(p);
  d.deliver(1, message(MessageType::kFlushAlone, pages({p}), [](Message& m) { m.sole = true; }));
  to_serving();
  EXPECT_EQ(d.swapped_out(p, true), "-") << "it was reported as held here, and it is";
  EXPECT_EQ(d.state(p), PageState::kSwapped);
}

TEST_F(SurvivingPages, MessagesThatWaitedForAHoldAreForgotten) {
  const std::uint64_t p = page_from_to(1, 1);
  d.write(p);
  d.deliver(
      1, message(MessageType::kGrant, pages({p}), [](Message& m) { m.payload = Payload::kZero; }));
  d.deliver(
      1, message(MessageType::kForwardGrab, pages({p}), [](Message& m) { m.requester = node(2); }));
  ASSERT_EQ(d.situation(p).deferred, 1u);
  to_serving();
  EXPECT_EQ(d.hold_expired(p), "-");
  EXPECT_EQ(d.state(p), PageState::kWrite);
}

TEST_F(SurvivingPages, ReportsOfASupersededViewAreNotForgotten) {
  const std::uint64_t p = page_in_view_2(0);
  to_view_2();
  mark(1, 2);
  // Node 1 is done with view 2 and has told this node, then cleared its directory. Node 2 dies.
  report(1, pages({p}), Holding::kExisted);
  report(1, pages({p + 1}), Holding::kLost, 2, node(3));
  d.new_view(view_of(3, 4, {2, 3}));
  // Whoever manages the page in view 3 must hear of it from here.
  std::string text = mark(1, 3);
  text += " | " + report_end(1, 3);
  if (d.manager_of(p) == 0) {
    EXPECT_THAT(d.situation(p).entry, HasSubstr("lost with"));
    EXPECT_EQ(d.situation(p + 1).entry, "lost with 3");
  } else {
    EXPECT_THAT(text, HasSubstr("Report " + std::to_string(p) + " (existed) to 1"));
    EXPECT_THAT(text, HasSubstr("Report " + std::to_string(p + 1) + " (lost, blames 3) to 1"));
  }
}

TEST_F(SurvivingPages, ReportsOfASupersededViewThatArriveLateAreNotForgotten) {
  const std::uint64_t p = page_in_view_2(0);
  to_view_2();
  mark(1, 2);
  d.new_view(view_of(3, 4, {2, 3}));
  report(1, pages({p}), Holding::kExisted);
  const std::string text = mark(1, 3);
  report_end(1, 3);
  if (d.manager_of(p) == 0)
    EXPECT_THAT(d.situation(p).entry, HasSubstr("lost with"));
  else
    EXPECT_THAT(text, HasSubstr("Report " + std::to_string(p) + " (existed) to 1"));
}

}  // namespace
}  // namespace gob::test
