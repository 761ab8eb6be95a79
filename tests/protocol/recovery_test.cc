// View changes: drain, report, serve again; what survives and what is lost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/protocol/core_driver.h"

namespace gob::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Four nodes; node 3 dies in view 2 unless a test says otherwise. This is node 0.
class Recovery : public ::testing::Test {
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

TEST_F(Recovery, ANewViewSendsAMarkerToEveryOtherMember) {
  EXPECT_EQ(d.new_view(view_of(2, 4, {3})), "Marker to 1; Marker to 2");
  EXPECT_EQ(d.core().phase(), Core::Phase::kDraining);
}

TEST_F(Recovery, ANodeAloneServesAtOnce) {
  CoreDriver one({.nodes = 1, .serving = false});
  EXPECT_EQ(one.new_view(view_of(1, 1)), "Serving 1");
}

TEST_F(Recovery, ReportsStartWithTheLastMarker) {
  to_view_2();
  EXPECT_EQ(mark(1, 2), "-");
  EXPECT_EQ(mark(2, 2), "ReportEnd to 1; ReportEnd to 2");
  EXPECT_EQ(d.core().phase(), Core::Phase::kRebuilding);
}

TEST_F(Recovery, ServesWithTheLastEndOfReports) {
  to_rebuilding();
  EXPECT_EQ(report_end(1), "-");
  EXPECT_EQ(report_end(2), "Serving 2");
  EXPECT_EQ(d.core().phase(), Core::Phase::kServing);
}

TEST_F(Recovery, AMarkerMayComeBeforeTheView) {
  EXPECT_EQ(mark(1, 2), "-");
  EXPECT_EQ(d.core().phase(), Core::Phase::kServing);
  d.new_view(view_of(2, 4, {3}));
  EXPECT_EQ(mark(2, 2), "ReportEnd to 1; ReportEnd to 2");
}

TEST_F(Recovery, ReportsOfAPeerThatIsAheadWaitForTheDrain) {
  const std::uint64_t p = page_in_view_2(0);
  to_view_2();
  mark(1, 2);
  EXPECT_EQ(report(1, pages({p}), Holding::kSole), "-");
  EXPECT_EQ(report_end(1), "-");
  mark(2, 2);
  EXPECT_EQ(d.situation(p).entry, "owner 1, copies 1");
  EXPECT_EQ(report_end(2), "Serving 2");
}

TEST_F(Recovery, ARequestOfAPeerThatIsAheadIsAnsweredWhenTheDirectoryIsComplete) {
  const std::uint64_t p = page_in_view_2(0);
  to_rebuilding();
  report(2, pages({p}), Holding::kSole);
  report_end(1);
  EXPECT_EQ(get_from_1(p), "-");
  EXPECT_EQ(report_end(2), "Serving 2; ForwardGet " + std::to_string(p) + " (for 1) to 2");
}

TEST_F(Recovery, TellsTheNewManagersWhatItHoldsInRuns) {
  const std::uint64_t p = page_from_to(1, 2);
  const PageSet written = run(p, p + 3);
  d.touch(written, Access::kWrite);
  d.deliver(1,
            message(MessageType::kGrant, written, [](Message& m) { m.payload = Payload::kZero; }));
  d.give_read(p + 9, 2);
  to_view_2();
  mark(1, 2);
  EXPECT_EQ(mark(2, 2), "Report " + std::to_string(p + 9) + " (read) to 2; Report " +
                            pages_text(written) + " (sole) to 2; ReportEnd to 1; ReportEnd to 2");
}

TEST_F(Recovery, TellsTheNewManagerWhatItManaged) {
  const std::uint64_t p = page_from_to(0, 1);
  d.deliver(2, message(MessageType::kGrab, run(p, p + 4)));
  to_view_2();
  mark(1, 2);
  EXPECT_THAT(mark(2, 2), HasSubstr("Report " + pages_text(run(p, p + 4)) + " (existed) to 1"));
}

TEST_F(Recovery, SwappedPagesAreReportedAsSole) {
  const std::uint64_t p = page_from_to(1, 2);
  d.give_write(p);
  d.flush(p);
  d.deliver(1, message(MessageType::kFlushAlone, pages({p}), [](Message& m) { m.sole = true; }));
  d.swapped_out(p, true);
  to_view_2();
  mark(1, 2);
  EXPECT_THAT(mark(2, 2), HasSubstr("Report " + std::to_string(p) + " (sole) to 2"));
}

TEST_F(Recovery, TheHolderWithTheLowestIdBecomesOwnerWhateverTheOrder) {
  const std::uint64_t p = page_in_view_2(0);
  to_rebuilding();
  report(2, pages({p}), Holding::kRead);
  EXPECT_EQ(d.situation(p).entry, "owner 2, copies 2");
  report(1, pages({p}), Holding::kRead);
  EXPECT_EQ(d.situation(p).entry, "owner 1, copies 1 2");
}

TEST_F(Recovery, APageThatExistedAndThatNobodyHoldsIsLost) {
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

TEST_F(Recovery, ALostPageStaysLostAndKeepsItsBlame) {
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

TEST_F(Recovery, ACopyAnywhereSavesALostPage) {
  const std::uint64_t p = page_in_view_2(0);
  to_rebuilding();
  report(1, pages({p}), Holding::kLost, 2, node(9));
  report(2, pages({p}), Holding::kRead);
  EXPECT_EQ(d.situation(p).entry, "owner 2, copies 2");
  report(1, pages({p}), Holding::kLost, 2, node(9));
  EXPECT_EQ(d.situation(p).entry, "owner 2, copies 2") << "whatever the order";
}

TEST_F(Recovery, APageOfADeadManagerThatNobodyReportedIsNeverAnsweredWithZeros) {
  const std::uint64_t p = page_from_to(3, 0);
  to_serving();
  EXPECT_EQ(d.core().entry(page(p)), std::nullopt);
  EXPECT_EQ(get_from_1(p), "Refuse " + std::to_string(p) + " (Lost, blames 3) to 1");
  EXPECT_EQ(d.core().entry(page(p)), std::nullopt) << "and costs no memory";
}

TEST_F(Recovery, AContainerMadeAfterTheLossIsNotHaunted) {
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

TEST_F(Recovery, APageOfALivingManagerThatNobodyTouchedIsStillZeros) {
  const std::uint64_t p = page_from_to(1, 0);
  to_serving();
  EXPECT_EQ(get_from_1(p), "Grant " + std::to_string(p) + " (zero) to 1");
}

TEST_F(Recovery, ProgramsThatWaitAskTheNewManager) {
  const std::uint64_t p = page_from_to(3, 1);
  EXPECT_EQ(d.read(p), "Get " + std::to_string(p) + " to 3");
  to_view_2();
  EXPECT_EQ(d.situation(p).request, "parked Get");
  mark(1, 2);
  EXPECT_EQ(mark(2, 2), "ReportEnd to 1; ReportEnd to 2; Get " + std::to_string(p) + " to 1");
}

TEST_F(Recovery, WhatWasAskedForAheadIsForgotten) {
  const std::uint64_t p = page_from_to(1, 1);
  d.touch(pages({p}), Access::kRead, run(p, p + 3).mask);
  to_view_2();
  EXPECT_NE(d.core().pending(page(p)), nullptr);
  EXPECT_EQ(d.core().pending(page(p + 1)), nullptr);
}

TEST_F(Recovery, TouchesDuringTheDrainWaitForItsEnd) {
  const std::uint64_t p = page_in_view_2(1);
  to_view_2();
  EXPECT_EQ(d.write(p), "-");
  EXPECT_EQ(d.situation(p).request, "parked Grab");
  mark(1, 2);
  EXPECT_THAT(mark(2, 2), HasSubstr("Grab " + std::to_string(p) + " to 1"));
}

TEST_F(Recovery, BytesOfTheOldViewAreAbsorbed) {
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

TEST_F(Recovery, InjectedBytesOfTheOldViewAreAbsorbed) {
  const std::uint64_t p = page_from_to(1, 1);
  to_view_2();
  EXPECT_EQ(late(2, MessageType::kInject, p, [](Message& m) { m.payload = Payload::kCopy; }),
            "Install " + std::to_string(p) + " (unmapped)");
  EXPECT_EQ(late(1, MessageType::kPage, p, [](Message& m) { m.payload = Payload::kCopy; }), "-")
      << "one copy is enough";
}

TEST_F(Recovery, NothingElseOfTheOldViewCounts) {
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

TEST_F(Recovery, BytesBehindTheMarkerAreIgnored) {
  const std::uint64_t p = page_from_to(1, 1);
  to_view_2();
  mark(2, 2);
  EXPECT_EQ(late(2, MessageType::kInject, p, [](Message& m) { m.payload = Payload::kCopy; }), "-");
  EXPECT_EQ(d.state(p), PageState::kInvalid);
}

TEST_F(Recovery, ADeadNodesLastWordsAreIgnored) {
  const std::uint64_t p = page_from_to(1, 1);
  to_view_2();
  EXPECT_EQ(late(3, MessageType::kInject, p, [](Message& m) { m.payload = Payload::kCopy; }), "-");
  to_view_2();
  d.finish_view();
  EXPECT_EQ(d.deliver(3, message(MessageType::kGet, pages({p}))), "-");
}

TEST_F(Recovery, BytesFromAViewThatHasNotBegunAreAViolation) {
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

TEST_F(Recovery, BytesThatWaitedForAcknowledgementsAreReadable) {
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

TEST_F(Recovery, APageOnOfferIsKept) {
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

TEST_F(Recovery, ASwapOutUnderWayEndsWithoutAWordToTheManager) {
  const std::uint64_t p = page_from_to(1, 1);
  d.give_write(p);
  d.flush(p);
  d.deliver(1, message(MessageType::kFlushAlone, pages({p}), [](Message& m) { m.sole = true; }));
  to_serving();
  EXPECT_EQ(d.swapped_out(p, true), "-") << "it was reported as held here, and it is";
  EXPECT_EQ(d.state(p), PageState::kSwapped);
}

TEST_F(Recovery, MessagesThatWaitedForAHoldAreForgotten) {
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

TEST_F(Recovery, ASupersededViewIsForgotten) {
  to_view_2();
  mark(1, 2);
  EXPECT_EQ(d.new_view(view_of(3, 4, {2, 3})), "Marker to 1");
  EXPECT_EQ(mark(1, 3), "ReportEnd to 1");
  EXPECT_EQ(report_end(1, 3), "Serving 3");
}

TEST_F(Recovery, ReportsOfASupersededViewAreNotForgotten) {
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

TEST_F(Recovery, ReportsOfASupersededViewThatArriveLateAreNotForgotten) {
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

TEST_F(Recovery, AnOlderViewIsIgnored) {
  to_serving();
  EXPECT_EQ(d.new_view(view_of(1, 4)), "-");
  EXPECT_EQ(d.new_view(view_of(2, 4)), "-");
  EXPECT_EQ(d.core().phase(), Core::Phase::kServing);
}

TEST_F(Recovery, ADepartingNodeReportsAndIsThenLeftAlone) {
  View view = view_of(2, 4);
  view.members = {node(1), node(2), node(3)};
  view.departing = {node(0)};
  const std::uint64_t p = page_of_manager(0, 4);
  d.deliver(2, message(MessageType::kGrab, pages({p})));
  EXPECT_EQ(d.new_view(view), "Marker to 1; Marker to 2; Marker to 3");
  mark(1, 2);
  mark(2, 2);
  const std::string text = mark(3, 2);
  EXPECT_THAT(text, HasSubstr("Report " + std::to_string(p) + " (existed) to " +
                              std::to_string(d.manager_of(p))));
  EXPECT_THAT(text, HasSubstr("ReportEnd to 1; ReportEnd to 2; ReportEnd to 3; Serving 2"));
  EXPECT_EQ(d.core().phase(), Core::Phase::kLeft);
  EXPECT_EQ(get_from_1(p), "-");
}

TEST_F(Recovery, MembersWaitForTheReportOfADepartingNode) {
  View view = view_of(2, 4);
  view.members = {node(0), node(1), node(2)};
  view.departing = {node(3)};
  d.new_view(view);
  mark(1, 2);
  EXPECT_EQ(mark(2, 2), "-");
  EXPECT_THAT(mark(3, 2), HasSubstr("ReportEnd to 1; ReportEnd to 2"));
  report_end(1);
  EXPECT_EQ(report_end(2), "-");
  EXPECT_EQ(report_end(3), "Serving 2");
}

TEST_F(Recovery, AnEvictedNodeRefusesItsProgramsAtOnce) {
  const std::uint64_t p = page_of_manager(1, 4);
  d.read(p);
  EXPECT_EQ(d.new_view(view_of(2, 4, {0})),
            "Refused " + std::to_string(p) + " (Leaving, blames 0)");
  EXPECT_EQ(d.core().phase(), Core::Phase::kLeft);
  EXPECT_EQ(d.write(p), "Refused " + std::to_string(p) + " (Leaving, blames 0)");
}

TEST_F(Recovery, AJoiningNodeBeginsEmpty) {
  View view = view_of(2, 4);
  to_view_2();
  d.finish_view();
  view.epoch = Epoch{3};
  EXPECT_EQ(d.new_view(view), "Marker to 1; Marker to 2; Marker to 3");
  EXPECT_EQ(d.finish_view(), "Serving 3");
}

}  // namespace
}  // namespace gob::test
