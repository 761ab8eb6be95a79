// Clusters of more than 48 nodes: bit i of a copyset stands for nodes i, i + 48, i + 96.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/protocol/core_driver.h"

namespace gob::test {
namespace {

class CoarseCopyset : public ::testing::Test {
 protected:
  const std::uint64_t p = page_of_manager(0, 100);
  const std::string name = std::to_string(p);
  CoreDriver d{{.nodes = 100}};
  std::string tell(MessageType type, unsigned from, const Edit& edit = {}) {
    return d.deliver(from, message(type, pages({p}), edit));
  }
};

TEST_F(CoarseCopyset, InvalidatesEveryNodeThatMayHoldACopy) {
  tell(MessageType::kGrab, 5);
  tell(MessageType::kGet, 7);
  tell(MessageType::kConfirm, 7);
  EXPECT_EQ(tell(MessageType::kGrab, 9), "Invalidate " + name + " (for 9) to 7; Invalidate " +
                                             name + " (for 9) to 53; Invalidate " + name +
                                             " (for 9) to 55; ForwardGrab " + name +
                                             " (3 acks, for 9) to 5");
}

TEST_F(CoarseCopyset, SendsBytesToAReaderThatMayHoldACopyAlready) {
  tell(MessageType::kGrab, 5);
  tell(MessageType::kGet, 7);
  tell(MessageType::kConfirm, 7);
  EXPECT_EQ(tell(MessageType::kGet, 55), "ForwardGet " + name + " (for 55) to 5");
  EXPECT_EQ(tell(MessageType::kGet, 5), "Page " + name + " to 5") << "the owner is known exactly";
}

TEST_F(CoarseCopyset, UpgradesTheOwnerWithoutBytesButAnotherReaderWithThem) {
  tell(MessageType::kGrab, 5);
  tell(MessageType::kGet, 7);
  tell(MessageType::kConfirm, 7);
  CoreDriver other = d;
  EXPECT_EQ(tell(MessageType::kGrab, 5), "Invalidate " + name + " (for 5) to 7; Invalidate " +
                                             name + " (for 5) to 53; Invalidate " + name +
                                             " (for 5) to 55; Grant " + name +
                                             " (3 acks, confirm) to 5");
  EXPECT_THAT(other.deliver(7, message(MessageType::kGrab, pages({p}))),
              ::testing::EndsWith("ForwardGrab " + name + " (2 acks, for 7) to 5"));
}

TEST_F(CoarseCopyset, NeverForgetsASharedBit) {
  tell(MessageType::kGrab, 5);
  tell(MessageType::kGet, 7);
  tell(MessageType::kConfirm, 7);
  tell(MessageType::kFlush, 55);
  tell(MessageType::kFlushDone, 55);
  EXPECT_TRUE(d.core().entry(page(p))->copyset().has(node(7)));
}

TEST_F(CoarseCopyset, LetsTheOwnerSwapOutOnlyWhenNoBitIsInDoubt) {
  constexpr unsigned kOwner = 20;  // of 60 nodes it has its bit to itself
  CoreDriver some{{.nodes = 60}};
  const std::uint64_t q = page_of_manager(0, 60);
  const auto say = [&](MessageType type, unsigned from, const Edit& edit = {}) {
    return some.deliver(from, message(type, pages({q}), edit));
  };
  say(MessageType::kGrab, kOwner);
  EXPECT_THAT(say(MessageType::kFlush, kOwner), ::testing::HasSubstr("(sole)"));
  say(MessageType::kFlushDone, kOwner, [](Message& m) { m.node = node(kOwner); });
  say(MessageType::kGet, 7);
  say(MessageType::kConfirm, 7);
  EXPECT_THAT(say(MessageType::kFlush, kOwner), ::testing::Not(::testing::HasSubstr("(sole)")));
}

TEST_F(CoarseCopyset, DoubtsTheBitOfAnOwnerThatSharesItWithAReader) {
  tell(MessageType::kGrab, 5);
  tell(MessageType::kGet, 53);
  tell(MessageType::kConfirm, 53);
  EXPECT_EQ(tell(MessageType::kFlush, 5), "FlushAlone " + name + " to 5");
}

}  // namespace
}  // namespace gob::test
