// View changes: drain, report, serve again; who asks whom, and who goes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/protocol/view_change.h"

namespace gob::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

using Recovery = ViewChange;

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

TEST_F(Recovery, ASupersededViewIsForgotten) {
  to_view_2();
  mark(1, 2);
  EXPECT_EQ(d.new_view(view_of(3, 4, {2, 3})), "Marker to 1");
  EXPECT_EQ(mark(1, 3), "ReportEnd to 1");
  EXPECT_EQ(report_end(1, 3), "Serving 3");
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

TEST_F(Recovery, ADepartedNodeSpeaksAgainIfTheNextViewStillNamesIt) {
  View view = view_of(2, 4);
  view.members = {node(1), node(2), node(3)};
  view.departing = {node(0)};
  d.new_view(view);
  for (unsigned peer : {1u, 2u, 3u}) mark(peer, 2);
  ASSERT_EQ(d.core().phase(), Core::Phase::kLeft);
  // Node 3 dies before every member serves view 2.
  view.epoch = Epoch{3};
  view.members = {node(1), node(2)};
  EXPECT_EQ(mark(1, 3), "-") << "a member that heard of the view first";
  EXPECT_EQ(d.new_view(view), "Marker to 1; Marker to 2");
  EXPECT_EQ(mark(2, 3), "ReportEnd to 1; ReportEnd to 2; Serving 3");
  EXPECT_EQ(d.core().phase(), Core::Phase::kLeft);
  view.epoch = Epoch{4};
  view.departing.clear();
  EXPECT_EQ(d.new_view(view), "-");
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
