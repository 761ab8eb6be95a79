// Injection: the last copy of a page goes to the node with most free room.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/protocol/core_driver.h"

namespace gob::test {
namespace {

// This node is 0; node 1 manages page `p`.
class Injection : public ::testing::Test {
 protected:
  // Any message tells the room of its sender.
  void room_of(unsigned peer, std::uint32_t frames, CoreDriver& at) {
    at.deliver(peer, message(MessageType::kInvalidate, pages({p + 40}), [=](Message& m) {
                 m.requester = node(peer);
                 m.free_frames = frames;
               }));
  }
  void room_of(unsigned peer, std::uint32_t frames) { room_of(peer, frames, d); }
  std::string alone() {
    return d.deliver(1, message(MessageType::kFlushAlone, pages({p}), [](Message& m) {
                       m.sole = true;
                       m.free_frames = 1;
                     }));
  }
  std::string reply(unsigned from, bool accepted) {
    return d.deliver(from, message(MessageType::kInjectReply, pages({p}), [=](Message& m) {
                       m.accepted = accepted;
                       m.free_frames = 500;
                     }));
  }
  std::string inject(CoreDriver& at, std::uint64_t index, bool leaving = false) {
    return at.deliver(2, message(MessageType::kInject, pages({index}), [=](Message& m) {
                        m.payload = Payload::kCopy;
                        m.leaving = leaving;
                      }));
  }
  void flush_last_copy() {
    d.give_write(p);
    d.flush(p);
  }

  const std::uint64_t p = page_of_manager(1, 4);
  const std::string name = std::to_string(p);
  CoreDriver d;
};

TEST_F(Injection, OffersThePageToTheNodeWithMostRoom) {
  room_of(2, 100);
  room_of(3, 300);
  flush_last_copy();
  EXPECT_EQ(alone(), "Downgrade " + name + "; Inject " + name + " (copy) to 3");
  EXPECT_EQ(d.situation(p).page, "Injecting flushing");
}

TEST_F(Injection, SpreadsOverTheNodesAsTheirHintsAreUsedUp) {
  room_of(2, 300);
  room_of(3, 301);
  const PageSet all = run(p, p + 3);
  d.touch(all, Access::kWrite);
  d.deliver(1, message(MessageType::kGrant, all, [](Message& m) { m.payload = Payload::kZero; }));
  d.step(event::HoldExpired{all});
  d.step(event::Flush{all});
  d.deliver(1, message(MessageType::kFlushAlone, all, [](Message& m) { m.sole = true; }));
  unsigned to_2 = 0;
  unsigned to_3 = 0;
  for (const Action& a : d.last_actions())
    if (const auto* send = std::get_if<action::Send>(&a))
      (send->to == node(2) ? to_2 : to_3) += send->message.pages.size();
  EXPECT_EQ(to_2, 2u);
  EXPECT_EQ(to_3, 2u);
}

TEST_F(Injection, AcceptedEndsTheFlushAtTheNewOwner) {
  room_of(3, 300);
  flush_last_copy();
  alone();
  EXPECT_EQ(reply(3, true), "Invalidate " + name + "; FlushDone " + name + " (owner 3) to 1");
  EXPECT_EQ(d.state(p), PageState::kInvalid);
  EXPECT_TRUE(d.core().at_rest());
}

TEST_F(Injection, RefusedTriesTheNextNode) {
  room_of(2, 100);
  room_of(3, 300);
  flush_last_copy();
  alone();
  EXPECT_EQ(reply(3, false), "Inject " + name + " (copy) to 2");
}

TEST_F(Injection, RefusedByAllIsSwappedOut) {
  room_of(2, 100);
  room_of(3, 300);
  flush_last_copy();
  alone();
  reply(3, false);
  EXPECT_EQ(reply(2, false), "SwapOut " + name);
}

TEST_F(Injection, NodesWithLittleRoomAreLeftInPeace) {
  room_of(2, 3);
  room_of(3, 10);
  flush_last_copy();
  EXPECT_EQ(alone(), "Downgrade " + name + "; SwapOut " + name);
}

TEST_F(Injection, ReadersGoOnAndWritersWaitUntilItIsOver) {
  room_of(3, 300);
  flush_last_copy();
  alone();
  EXPECT_EQ(d.read(p), "Map " + name + " (read)");
  EXPECT_EQ(d.write(p), "-");
  EXPECT_EQ(reply(3, true), "Invalidate " + name + "; FlushDone " + name +
                                " (owner 3) to 1; Grab " + name + " to 1");
}

TEST_F(Injection, AnAnswerToWhatWasNotOfferedIsAViolation) {
  room_of(3, 300);
  EXPECT_EQ(reply(3, true), "violation");
  flush_last_copy();
  alone();
  EXPECT_EQ(reply(2, true), "violation") << "not the node that was asked";
  EXPECT_EQ(d.state(p), PageState::kInjecting);
}

TEST_F(Injection, AtTheReceiverIsStoredUnmapped) {
  EXPECT_EQ(inject(d, p),
            "Install " + name + " (unmapped); InjectReply " + name + " (accepted) to 2");
  EXPECT_EQ(d.state(p), PageState::kRead);
  EXPECT_EQ(d.read(p), "Map " + name + " (read)");
}

TEST_F(Injection, AReceiverThatHoldsACopyKeepsItsOwn) {
  d.give_read(p, 2);
  EXPECT_EQ(inject(d, p), "InjectReply " + name + " (accepted) to 2");
  EXPECT_EQ(d.core().resident_frames(), 1u);
}

TEST_F(Injection, AReceiverThatIsFlushingItsCopyRefuses) {
  d.give_read(p, 2);
  d.flush(p);
  EXPECT_EQ(inject(d, p), "InjectReply " + name + " (refused) to 2");
}

TEST_F(Injection, AReceiverWhoseReadIsUnderWayTakesThePage) {
  d.read(p);
  EXPECT_EQ(inject(d, p),
            "Install " + name + " (unmapped); InjectReply " + name + " (accepted) to 2");
  EXPECT_EQ(d.read(p), "Map " + name + " (read)");
}

TEST_F(Injection, AReceiverKeepsItsReserve) {
  CoreDriver small({.budget_frames = 10, .low_water_frames = 1});
  for (std::uint64_t i = 0; i < 9; ++i) inject(small, p + i);
  EXPECT_EQ(small.core().resident_frames(), 9u);
  EXPECT_EQ(inject(small, p + 9), "InjectReply " + std::to_string(p + 9) + " (refused) to 2");
  EXPECT_THAT(inject(small, p + 9, true), ::testing::HasSubstr("accepted"))
      << "for a node that leaves the reserve is used";
  EXPECT_THAT(inject(small, p + 10, true), ::testing::HasSubstr("refused"));
  EXPECT_EQ(small.core().resident_frames(), 10u);
}

TEST_F(Injection, ALeavingNodeTakesNothing) {
  d.leave();
  EXPECT_EQ(inject(d, p), "InjectReply " + name + " (refused, leaving) to 2");
}

TEST_F(Injection, WithoutBytesIsAViolation) {
  EXPECT_EQ(d.deliver(2, message(MessageType::kInject, pages({p}))), "violation");
  EXPECT_EQ(d.state(p), PageState::kInvalid);
}

}  // namespace
}  // namespace gob::test
