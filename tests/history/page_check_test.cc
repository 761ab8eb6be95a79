// The checker of traces: a sound one passes; each way of being wrong is found.
#include "tests/history/page_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "libgob/linker/page_checksum.h"

namespace gob::history {
namespace {

using testing::HasSubstr;

constexpr PageKey kPage = (PageKey{1} << 40) | 7;

// Traces of three nodes; each record happens after the one before.
class Story {
 public:
  Story() {
    for (unsigned node = 0; node < 3; ++node) traces.push_back({node, 100 + node, false, {}});
  }

  Story& add(unsigned node, TraceKind kind, Access access = Access::kNone,
             std::uint64_t digest = 0) {
    traces[node].records.push_back(
        {now_ += 10, kPage, digest, 0, 0, static_cast<std::uint8_t>(access), kind});
    return *this;
  }
  Story& view(unsigned viewer, std::uint64_t epoch, const std::vector<std::uint16_t>& members) {
    now_ += 10;
    for (const std::uint16_t member : members)
      traces[viewer].records.push_back({now_, 0, epoch, static_cast<std::uint32_t>(members.size()),
                                        member, 0, TraceKind::kMember});
    return *this;
  }
  [[nodiscard]] std::string check() const { return check_pages(traces).findings.text(); }
  TraceRecord& record(unsigned node, std::size_t index) { return traces[node].records.at(index); }
  void drop(unsigned node, std::size_t index) {
    traces[node].records.erase(traces[node].records.begin() + static_cast<std::ptrdiff_t>(index));
  }

  std::vector<NodeTrace> traces;

 private:
  std::uint64_t now_ = 0;
};

// A page is touched on n1, read by n2, written by n3, read and then written by n1, flushed to n2.
Story sound() {
  const std::uint64_t one = 111;
  const std::uint64_t two = 222;
  const std::uint64_t three = 333;
  Story story;
  story
      .add(0, TraceKind::kFault, Access::kWrite)         // n1 0
      .add(0, TraceKind::kZeroed)                        // n1 1
      .add(0, TraceKind::kGranted, Access::kWrite)       // n1 2
      .add(1, TraceKind::kFault, Access::kRead)          // n2 0
      .add(0, TraceKind::kProtected)                     // n1 3
      .add(0, TraceKind::kRead, Access::kNone, one)      // n1 4
      .add(1, TraceKind::kStored, Access::kNone, one)    // n2 1
      .add(1, TraceKind::kGranted, Access::kRead)        // n2 2
      .add(2, TraceKind::kFault, Access::kWrite)         // n3 0
      .add(1, TraceKind::kGone)                          // n2 3
      .add(0, TraceKind::kGone)                          // n1 5
      .add(0, TraceKind::kRead, Access::kNone, one)      // n1 6
      .add(2, TraceKind::kStored, Access::kNone, one)    // n3 1
      .add(2, TraceKind::kGranted, Access::kWrite)       // n3 2
      .add(0, TraceKind::kFault, Access::kRead)          // n1 7
      .add(2, TraceKind::kProtected)                     // n3 3
      .add(2, TraceKind::kRead, Access::kNone, two)      // n3 4
      .add(0, TraceKind::kStored, Access::kNone, two)    // n1 8
      .add(0, TraceKind::kGranted, Access::kRead)        // n1 9
      .add(0, TraceKind::kFault, Access::kWrite)         // n1 10
      .add(2, TraceKind::kGone)                          // n3 5
      .add(0, TraceKind::kGranted, Access::kWrite)       // n1 11
      .add(0, TraceKind::kProtected)                     // n1 12
      .add(0, TraceKind::kRead, Access::kNone, three)    // n1 13
      .add(1, TraceKind::kStored, Access::kNone, three)  // n2 4
      .add(0, TraceKind::kGone);                         // n1 14
  return story;
}

TEST(PageCheck, PassesASoundTrace) {
  const PageCheck check = check_pages(sound().traces);
  EXPECT_EQ(check.findings.text(), "");
  EXPECT_EQ(check.records, 26u);
  EXPECT_EQ(check.grants, 5u);
  EXPECT_EQ(check.writers, 3u);
  EXPECT_EQ(check.moves, 4u);
}

struct Corruption {
  const char* name;
  std::function<void(Story&)> corrupt;
  const char* finding;
};

class Corrupted : public testing::TestWithParam<Corruption> {};

TEST_P(Corrupted, IsFound) {
  Story story = sound();
  GetParam().corrupt(story);
  EXPECT_THAT(story.check(), HasSubstr(GetParam().finding));
}

INSTANTIATE_TEST_SUITE_P(
    Traces, Corrupted,
    testing::Values(
        Corruption{"AnInvalidationIsMissing", [](Story& s) { s.drop(1, 3); },
                   "may be written, while it may still be read on n2"},
        Corruption{"ADowngradeIsMissing", [](Story& s) { s.drop(0, 3); },
                   "is sent while programs may write to it"},
        Corruption{"ADowngradeAndTheReadingAreMissing",
                   [](Story& s) {
                     s.drop(0, 4);
                     s.drop(0, 3);
                   },
                   "may be read, while it may still be written on n1"},
        Corruption{"GrantAndInvalidationAreSwapped",
                   [](Story& s) { std::swap(s.record(1, 3).time_ns, s.record(2, 2).time_ns); },
                   "may be written, while it may still be read on n2"},
        Corruption{"AnOlderValueIsSent", [](Story& s) { s.record(2, 4).digest = 111; },
                   "comes with bytes that are not its last, those of n3"},
        Corruption{"AnOlderValueArrives", [](Story& s) { s.record(0, 8).digest = 111; },
                   "comes with bytes that are not its last, those of n3"},
        Corruption{"BytesComeFromNobody", [](Story& s) { s.drop(2, 4); },
                   "comes, but its writer n3 (pid 102) gave nothing away"},
        Corruption{"ANodeThatDidNotWriteSendsIt",
                   [](Story& s) {
                     s.record(2, 4).kind = TraceKind::kGone;
                     s.traces[1].records.push_back(s.record(2, 4));
                     s.traces[1].records.back().kind = TraceKind::kRead;
                   },
                   "is sent although the last writer is n3"},
        Corruption{"AnExistingPageBecomesZeros",
                   [](Story& s) { s.record(2, 1).kind = TraceKind::kZeroed; },
                   "is answered with zeros, but it exists"},
        Corruption{"AGrantIsMissing", [](Story& s) { s.drop(1, 2); }, "was waited for to the end"}),
    [](const auto& each) { return each.param.name; });

TEST(PageCheck, ARefusalEndsAnAccess) {
  Story story = sound();
  story.add(2, TraceKind::kFault, Access::kRead);
  EXPECT_THAT(story.check(), HasSubstr("was waited for to the end"));
  story.add(2, TraceKind::kRefused);
  EXPECT_EQ(story.check(), "");
}

TEST(PageCheck, WhatAKilledNodeHeldEndsWithTheViewThatLeavesIt) {
  Story story;
  for (unsigned node = 0; node < 3; ++node) story.view(node, 1, {0, 1, 2});
  story.add(2, TraceKind::kZeroed)
      .add(2, TraceKind::kGranted, Access::kWrite)
      .add(2, TraceKind::kProtected)
      .add(2, TraceKind::kRead, Access::kNone, 5)
      .add(0, TraceKind::kStored, Access::kNone, 5)
      .add(0, TraceKind::kGranted, Access::kRead);
  story.traces[2].killed = true;
  Story before = story;
  before.add(0, TraceKind::kGranted, Access::kWrite);
  EXPECT_THAT(before.check(), HasSubstr("may still be read on n3"));
  story.view(1, 2, {0, 1}).view(0, 2, {0, 1}).add(0, TraceKind::kGranted, Access::kWrite);
  EXPECT_EQ(story.check(), "");
}

TEST(PageCheck, WhatDiedWithItsWriterDoesNotComeBack) {
  Story story;
  for (unsigned node = 0; node < 3; ++node) story.view(node, 1, {0, 1, 2});
  story.add(2, TraceKind::kZeroed).add(2, TraceKind::kGranted, Access::kWrite);
  story.traces[2].killed = true;
  story.view(0, 2, {0, 1}).view(1, 2, {0, 1});
  Story zeros = story;
  zeros.add(0, TraceKind::kZeroed).add(0, TraceKind::kGranted, Access::kWrite);
  EXPECT_THAT(zeros.check(), HasSubstr("is answered with zeros, but it exists"));
  Story bytes = story;
  bytes.add(0, TraceKind::kStored, Access::kNone, 9);
  EXPECT_THAT(bytes.check(), HasSubstr("comes, but its writer n3"));
}

TEST(PageCheck, ADaemonStartedAnewIsAnother) {
  Story story;
  for (unsigned node = 0; node < 3; ++node) story.view(node, 1, {0, 1, 2});
  story.add(2, TraceKind::kZeroed).add(2, TraceKind::kGranted, Access::kWrite);
  story.traces[2].killed = true;
  story.traces.push_back({2, 202, false, {}});
  story.view(3, 3, {0, 1, 2}).view(0, 2, {0, 1}).view(1, 2, {0, 1}).view(0, 3, {0, 1, 2});
  story.traces[3].records.push_back({10'000, kPage + 1, 0, 0, 0, 0, TraceKind::kZeroed});
  story.traces[3].records.push_back(
      {10'001, kPage + 1, 0, 0, 0, static_cast<std::uint8_t>(Access::kWrite), TraceKind::kGranted});
  story.traces[0].records.push_back(
      {10'002, kPage + 1, 0, 0, 0, static_cast<std::uint8_t>(Access::kRead), TraceKind::kGranted});
  EXPECT_THAT(story.check(), HasSubstr("may still be written on n3 (pid 202)"));
}

TEST(PageCheck, ZerosHaveADigest) {
  constexpr std::byte kZeros[kPageSize] = {};
  Story story;
  story.add(0, TraceKind::kZeroed)
      .add(0, TraceKind::kGranted, Access::kRead)
      .add(0, TraceKind::kRead, Access::kNone, page_checksum(kPage, kZeros))
      .add(1, TraceKind::kStored, Access::kNone, page_checksum(kPage, kZeros))
      .add(1, TraceKind::kGranted, Access::kRead);
  EXPECT_EQ(story.check(), "");
  story.record(1, 0).digest = 1;
  EXPECT_THAT(story.check(), HasSubstr("comes with bytes that are not its last"));
}

TEST(Rights, AreHadWhileTheyLast) {
  const std::vector<RightFrom> rights = {
      {100, Access::kRead}, {200, Access::kWrite}, {300, Access::kNone}};
  EXPECT_FALSE(had_right(rights, Access::kRead, 10, 99));
  EXPECT_TRUE(had_right(rights, Access::kRead, 10, 100));
  EXPECT_TRUE(had_right(rights, Access::kRead, 150, 160));
  EXPECT_FALSE(had_right(rights, Access::kWrite, 150, 199));
  EXPECT_TRUE(had_right(rights, Access::kWrite, 150, 200));
  EXPECT_TRUE(had_right(rights, Access::kWrite, 250, 400));
  EXPECT_TRUE(had_right(rights, Access::kWrite, 300, 400));
  EXPECT_FALSE(had_right(rights, Access::kRead, 301, 400));
  EXPECT_FALSE(had_right({}, Access::kRead, 0, 400));
}

}  // namespace
}  // namespace gob::history
