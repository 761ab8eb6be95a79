// Dispatch: containers that come and go, peers that are not members, the core as a regular value.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/protocol/core_driver.h"

namespace gob::test {
namespace {

using ::testing::HasSubstr;

class Dispatch : public ::testing::Test {
 protected:
  const std::uint64_t mine = page_of_manager(0, 4);
  const std::uint64_t p = page_of_manager(1, 4);
  const std::string name = std::to_string(p);
  CoreDriver d;
};

TEST_F(Dispatch, StartsWithTheFirstView) {
  CoreDriver fresh({.serving = false});
  EXPECT_EQ(fresh.core().phase(), Core::Phase::kStarting);
  EXPECT_EQ(fresh.new_view(view_of(1, 4)), "Marker to 1; Marker to 2; Marker to 3");
  EXPECT_EQ(fresh.finish_view(), "Serving 1");
  EXPECT_TRUE(fresh.core().at_rest());
}

TEST_F(Dispatch, PeersThatAreNotMembersAreNotHeard) {
  const Core before = d.core();
  for (auto type = MessageType::kGet; type <= kLastMessageType;
       type = static_cast<MessageType>(static_cast<int>(type) + 1)) {
    EXPECT_EQ(d.deliver(9, message(type, pages({mine}),
                                   [](Message& m) {
                                     m.requester = node(2);
                                     m.payload = Payload::kCopy;
                                   })),
              "-")
        << type_name(type);
    EXPECT_TRUE(d.core() == before) << type_name(type);
  }
}

TEST_F(Dispatch, OldMessagesAreNotHeardWhileServing) {
  d.new_view(view_of(2, 4));
  d.finish_view();
  EXPECT_EQ(d.deliver(1, message(MessageType::kGet, pages({mine}),
                                 [](Message& m) { m.epoch = Epoch{1}; })),
            "-");
}

TEST_F(Dispatch, EqualHistoriesMakeEqualCores) {
  CoreDriver other;
  EXPECT_TRUE(d.core() == other.core());
  d.read(p);
  EXPECT_FALSE(d.core() == other.core());
  EXPECT_NE(d.core().hash(), other.core().hash());
  other.read(p);
  EXPECT_TRUE(d.core() == other.core());
  EXPECT_EQ(d.core().hash(), other.core().hash());
}

TEST_F(Dispatch, OrderThatLeavesNoTraceMakesEqualCores) {
  CoreDriver other;
  for (std::uint64_t i : {0u, 1u, 2u}) d.give_write(p + i);
  for (std::uint64_t i : {2u, 0u, 1u}) other.give_write(p + i);
  EXPECT_TRUE(d.core() == other.core());
  EXPECT_EQ(d.core().hash(), other.core().hash());
}

TEST_F(Dispatch, ADescriptionNamesWhatIsUnderWay) {
  d.read(p);
  EXPECT_THAT(d.core().describe(page(p)), HasSubstr("pending"));
  d.deliver(2, message(MessageType::kGrab, pages({mine})));
  d.deliver(3, message(MessageType::kGet, pages({mine})));
  EXPECT_THAT(d.core().describe(page(mine)), HasSubstr("transaction"));
  EXPECT_THAT(d.core().describe(page(mine)), HasSubstr("owner 2"));
}

// --- removal of a container, at every stage of a page's life
class Removal : public Dispatch {
 protected:
  void expect_gone() {
    EXPECT_EQ(d.core().locals().size(), 0u);
    EXPECT_EQ(d.core().directory().size(), 0u);
    EXPECT_EQ(d.core().resident_frames(), 0u);
    EXPECT_TRUE(d.core().all_pending().empty());
    EXPECT_TRUE(d.core().at_rest());
  }
  std::string grant(std::uint32_t acks) {
    return d.deliver(2, message(MessageType::kGrant, pages({p}), [=](Message& m) {
                       m.payload = Payload::kMove;
                       m.acks = acks;
                       m.confirm = true;
                     }));
  }
};

TEST_F(Removal, DropsWhatIsHere) {
  d.give_write(p);
  d.give_write(mine);
  EXPECT_EQ(d.remove(), "DropContainer 1");
  expect_gone();
  EXPECT_EQ(d.remove(), "-");
  EXPECT_EQ(d.read(p), "Refused " + name + " (Removed, blames 0)");
}

TEST_F(Removal, WhileAsked) {
  d.read(p);
  EXPECT_EQ(d.remove(), "Refused " + name + " (Removed, blames 0); DropContainer 1");
  expect_gone();
  EXPECT_EQ(d.deliver(2, message(MessageType::kPage, pages({p}),
                                 [](Message& m) { m.payload = Payload::kCopy; })),
            "-");
}

TEST_F(Removal, WhileAskedAheadOfNeedTellsNobody) {
  d.touch(pages({p}), Access::kRead, run(p, p + 1).mask);
  EXPECT_EQ(d.remove(), "Refused " + name + " (Removed, blames 0); DropContainer 1");
  expect_gone();
}

TEST_F(Removal, WhileAcknowledgementsAreMissing) {
  d.write(p);
  grant(1);
  ASSERT_EQ(d.state(p), PageState::kStored);
  d.remove();
  expect_gone();
  EXPECT_EQ(d.deliver(3, message(MessageType::kInvalidateAck, pages({p}))), "-");
}

TEST_F(Removal, WhileHeldWithAMessageWaiting) {
  d.write(p);
  grant(0);
  d.deliver(
      1, message(MessageType::kForwardGrab, pages({p}), [](Message& m) { m.requester = node(3); }));
  d.remove();
  expect_gone();
  EXPECT_EQ(d.hold_expired(p), "-");
}

TEST_F(Removal, WhileFlushing) {
  d.give_write(p);
  d.flush(p);
  d.remove();
  expect_gone();
  EXPECT_EQ(d.deliver(1, message(MessageType::kFlushAlone, pages({p}))), "-");
}

TEST_F(Removal, WhileInjecting) {
  d.peer_room = 500;
  d.give_write(p);
  d.flush(p);
  d.deliver(1, message(MessageType::kFlushAlone, pages({p}), [](Message& m) { m.sole = true; }));
  ASSERT_EQ(d.state(p), PageState::kInjecting);
  d.remove();
  expect_gone();
  EXPECT_EQ(d.deliver(1, message(MessageType::kInjectReply, pages({p}),
                                 [](Message& m) { m.accepted = true; })),
            "-");
}

TEST_F(Removal, WhileSwappingOutSwappedAndSwappingIn) {
  for (int stage = 0; stage < 3; ++stage) {
    d = CoreDriver();
    d.give_write(p);
    d.flush(p);
    d.deliver(1, message(MessageType::kFlushAlone, pages({p}), [](Message& m) { m.sole = true; }));
    if (stage > 0) d.swapped_out(p, true);
    if (stage > 1) d.read(p);
    EXPECT_THAT(d.remove(), HasSubstr("DropContainer 1"));
    expect_gone();
    EXPECT_EQ(d.swapped_out(p, true), "-");
    EXPECT_EQ(d.swapped_in(p, true), "-");
  }
}

TEST_F(Removal, WhileATransactionIsOpen) {
  d.deliver(1, message(MessageType::kGrab, pages({mine})));
  d.deliver(2, message(MessageType::kGet, pages({mine})));
  d.deliver(3, message(MessageType::kGrab, pages({mine})));
  d.remove();
  expect_gone();
  EXPECT_EQ(d.deliver(2, message(MessageType::kConfirm, pages({mine}))), "-");
}

TEST_F(Removal, OthersWhoDoNotKnowYetGetAnswers) {
  d.remove();
  const std::string m = std::to_string(mine);
  EXPECT_EQ(d.deliver(2, message(MessageType::kGet, pages({mine}))),
            "Refuse " + m + " (Removed, blames 0) to 2");
  EXPECT_EQ(d.deliver(2, message(MessageType::kGrab, pages({mine}))),
            "Refuse " + m + " (Removed, blames 0) to 2");
  const Edit for_3 = [](Message& msg) {
    msg.requester = node(3);
    msg.acks = 1;
  };
  EXPECT_EQ(d.deliver(1, message(MessageType::kForwardGet, pages({p}),
                                 [](Message& msg) { msg.requester = node(3); })),
            "Refuse " + name + " (Removed, confirm, blames 0) to 3");
  EXPECT_EQ(d.deliver(1, message(MessageType::kForwardGrab, pages({p}), for_3)),
            "Refuse " + name + " (Removed, 1 ack, confirm, blames 0) to 3");
  EXPECT_EQ(d.deliver(1, message(MessageType::kInvalidate, pages({p}), for_3)),
            "InvalidateAck " + name + " (for 3) to 3");
  EXPECT_EQ(d.deliver(2, message(MessageType::kInject, pages({p}),
                                 [](Message& msg) { msg.payload = Payload::kCopy; })),
            "InjectReply " + name + " (refused) to 2");
}

TEST_F(Removal, LeavesOtherContainersAlone) {
  d.step(event::AddContainer{{ContainerId{2}, 64, Epoch{1}, kNoNode}});
  d.give_write(p);
  d.step(event::RemoveContainer{ContainerId{2}});
  EXPECT_EQ(d.state(p), PageState::kWrite);
}

}  // namespace
}  // namespace gob::test
