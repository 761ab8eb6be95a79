// Messages that no correct peer sends: each is a violation and changes nothing, whatever the state.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <vector>

#include "tests/protocol/core_driver.h"

namespace gob::test {
namespace {

struct Nonsense {
  std::string name;
  unsigned from;
  MessageType type;
  std::uint64_t page_index;
  Edit edit;
};
void PrintTo(const Nonsense& nonsense, std::ostream* out) { *out << nonsense.name; }

// Four nodes, this is node 0.
const std::uint64_t kMine = page_of_manager(0, 4);
const std::uint64_t kTheirs = page_of_manager(1, 4);

const Edit kFor2 = [](Message& m) { m.requester = node(2); };
const Edit kForNobody = [](Message& m) { m.requester = node(77); };
const Edit kForThisNode = [](Message& m) { m.requester = node(0); };
const Edit kWithBytes = [](Message& m) { m.payload = Payload::kCopy; };

std::vector<Nonsense> all_nonsense() {
  using enum MessageType;
  std::vector<Nonsense> all;
  for (MessageType type : {kGet, kGrab, kFlush, kConfirm, kFlushDone, kReport}) {
    all.push_back({type_name(type) + "AtANodeThatDoesNotManageThePage", 2, type, kTheirs, {}});
    all.push_back({type_name(type) + "BeyondTheEnd", 2, type, kContainerPages, {}});
  }
  for (MessageType type : {kForwardGet, kForwardGrab, kInvalidate}) {
    all.push_back({type_name(type) + "ForANodeThatIsNoMember", 1, type, kTheirs, kForNobody});
    all.push_back({type_name(type) + "ForTheNodeItIsSentTo", 1, type, kTheirs, kForThisNode});
    all.push_back({type_name(type) + "BeyondTheEnd", 1, type, kContainerPages, kFor2});
    all.push_back({type_name(type) + "OfANodeThatDoesNotManageThePage", 3, type, kTheirs, kFor2});
  }
  for (MessageType type : {kFlushDiscard, kFlushAlone})
    all.push_back({type_name(type) + "OfANodeThatDoesNotManageThePage", 3, type, kTheirs, {}});
  all.push_back({"ExistsForANodeThatIsNoMember", 1, kExists, kTheirs, kForNobody});
  all.push_back({"InjectWithoutBytes", 2, kInject, kTheirs, {}});
  all.push_back({"InjectBeyondTheEnd", 2, kInject, kContainerPages, kWithBytes});
  all.push_back({"FlushDoneWithAnOwnerThatIsNoMember", 2, kFlushDone, kMine,
                 [](Message& m) { m.node = node(77); }});
  all.push_back({"ConfirmThatNobodyAwaits", 2, kConfirm, kMine, {}});
  all.push_back(
      {"FlushDoneThatNobodyAwaits", 2, kFlushDone, kMine, [](Message& m) { m.node = node(2); }});
  all.push_back({"PageThatNobodyAskedFor", 2, kPage, kTheirs, kWithBytes});
  all.push_back({"PageBeyondTheEnd", 2, kPage, kContainerPages, kWithBytes});
  all.push_back({"GrantThatNobodyAskedFor", 2, kGrant, kTheirs, kWithBytes});
  all.push_back({"GrantBeyondTheEnd", 2, kGrant, kContainerPages, kWithBytes});
  all.push_back({"RefusalThatNobodyAskedFor", 1, kRefuse, kTheirs, {}});
  all.push_back({"AcknowledgementThatNobodyAwaits", 2, kInvalidateAck, kTheirs, {}});
  all.push_back({"FlushDiscardThatNobodyAskedFor", 1, kFlushDiscard, kTheirs, {}});
  all.push_back({"FlushAloneThatNobodyAskedFor", 1, kFlushAlone, kTheirs, {}});
  all.push_back({"InjectReplyThatNobodyAskedFor", 2, kInjectReply, kTheirs, {}});
  return all;
}

class NonsenseMessage : public ::testing::TestWithParam<Nonsense> {
 protected:
  void expect_violation(CoreDriver& d) const {
    const Nonsense& n = GetParam();
    // The hint of room that every message brings is believed; nothing else may change.
    d.deliver(n.from, message(MessageType::kReportEnd, PageSet{}));
    const Core before = d.core();
    Message m = message(n.type, PageSet::of(page(n.page_index)), n.edit);
    EXPECT_EQ(d.deliver(n.from, m), "violation");
    EXPECT_EQ(d.violations().size(), 1u);
    EXPECT_TRUE(d.core() == before);
  }
};

TEST_P(NonsenseMessage, IsAViolationInAnEmptyCore) {
  CoreDriver d;
  expect_violation(d);
}

TEST_P(NonsenseMessage, IsAViolationWhereThePageIsHeld) {
  CoreDriver d;
  d.give_write(kTheirs);
  d.give_write(kMine);
  expect_violation(d);
}

TEST_P(NonsenseMessage, IsAViolationWhereOtherRequestsAreUnderWay) {
  CoreDriver d;
  d.read(kTheirs + 1);
  d.deliver(3, message(MessageType::kGrab, pages({kMine})));
  d.deliver(1, message(MessageType::kGet, pages({kMine})));
  expect_violation(d);
}

INSTANTIATE_TEST_SUITE_P(All, NonsenseMessage, ::testing::ValuesIn(all_nonsense()),
                         [](const auto& nonsense) { return nonsense.param.name; });

TEST(NonsenseReport, AFlushThatWasAloneCannotEndAsADroppedCopy) {
  CoreDriver d;
  d.deliver(2, message(MessageType::kGrab, pages({kMine})));
  d.deliver(2, message(MessageType::kFlush, pages({kMine})));
  EXPECT_EQ(d.deliver(2, message(MessageType::kFlushDone, pages({kMine}))), "violation");
  EXPECT_EQ(d.situation(kMine).entry, "owner 2, copies 2");
}

TEST(NonsenseConfirm, OfAnotherRequesterIsAViolation) {
  CoreDriver d;
  d.deliver(1, message(MessageType::kGrab, pages({kMine})));
  d.deliver(2, message(MessageType::kGet, pages({kMine})));
  EXPECT_EQ(d.deliver(3, message(MessageType::kConfirm, pages({kMine}))), "violation");
  EXPECT_EQ(d.situation(kMine).transaction, "Get for 2");
}

}  // namespace
}  // namespace gob::test
