#include "libgob/runtime/held_messages.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace gob {
namespace {

constexpr NodeId kPeer{1};
constexpr NodeId kOther{2};

Message about(MessageType type, std::uint64_t stripe, std::uint64_t mask) {
  Message message;
  message.type = type;
  message.pages = {ContainerId{7}, stripe, mask};
  return message;
}

constexpr std::size_t kMost = std::size_t{1} << 20;

void hold(HeldMessages& held, HeldMessages::Held message) {
  EXPECT_TRUE(held.add(std::move(message)));
}

// What was sent, in order: "peer:stripe:mask".
class Sent {
 public:
  void release(HeldMessages& held, const PageSet& changed, std::uint64_t waits_in_stripe_0) {
    held.release(
        changed,
        [&](const PageSet& pages) {
          return pages.stripe == 0 ? waits_in_stripe_0 & pages.mask : std::uint64_t{0};
        },
        [&](const HeldMessages::Held& message) {
          const PageSet& pages = message.message.pages;
          EXPECT_EQ(message.payload.size() % kPageSize, 0u);
          order_.push_back(std::to_string(message.to.value()) + ":" + std::to_string(pages.stripe) +
                           ":" + std::to_string(pages.mask));
          payloads_.push_back(message.payload);
        });
  }
  [[nodiscard]] const std::vector<std::string>& order() const { return order_; }
  [[nodiscard]] const std::vector<std::vector<std::byte>>& payloads() const { return payloads_; }

 private:
  std::vector<std::string> order_;
  std::vector<std::vector<std::byte>> payloads_;
};

using Order = std::vector<std::string>;

TEST(HeldMessages, KeepTheirOrderForEachPageAndPeer) {
  HeldMessages held(kMost);
  Sent sent;
  const Message first = about(MessageType::kInvalidateAck, 0, 0b01);
  hold(held, {kPeer, first, {}});
  hold(held, {kPeer, about(MessageType::kGet, 0, 0b11), {}});
  hold(held, {kOther, about(MessageType::kGet, 0, 0b10), {}});
  EXPECT_FALSE(held.passes(about(MessageType::kGet, 0, 0b100)));
  EXPECT_TRUE(held.passes(about(MessageType::kGet, 1, 0b1)));
  sent.release(held, first.pages, 0b01);
  // Page 1 need not wait; page 0 of the second message stays behind that of the first.
  EXPECT_EQ(sent.order(), (Order{"1:0:2", "2:0:2"}));
  sent.release(held, first.pages, 0);
  EXPECT_EQ(sent.order(), (Order{"1:0:2", "2:0:2", "1:0:1", "1:0:1"}));
  EXPECT_TRUE(held.passes(about(MessageType::kMarker, 0, 0)));
}

TEST(HeldMessages, WhatSpeaksOfAllPagesStaysBehindAllAndBeforeAll) {
  HeldMessages held(kMost);
  Sent sent;
  const Message waits = about(MessageType::kInvalidateAck, 0, 0b1);
  hold(held, {kPeer, waits, {}});
  EXPECT_FALSE(held.passes(about(MessageType::kMarker, 0, 0)));
  hold(held, {kPeer, about(MessageType::kMarker, 0, 0), {}});
  hold(held, {kPeer, about(MessageType::kGet, 5, 0b1), {}});
  hold(held, {kOther, about(MessageType::kMarker, 0, 0), {}});
  EXPECT_FALSE(held.passes(about(MessageType::kGet, 9, 0b1)));
  sent.release(held, waits.pages, 0b1);
  EXPECT_EQ(sent.order(), (Order{"2:0:0"}));
  sent.release(held, waits.pages, 0);
  EXPECT_EQ(sent.order(), (Order{"2:0:0", "1:0:1", "1:0:0", "1:5:1"}));
}

TEST(HeldMessages, APayloadIsDividedAsItsPagesAre) {
  HeldMessages held(kMost);
  Sent sent;
  std::vector<std::byte> bytes;
  for (const int page : {1, 2, 3}) bytes.insert(bytes.end(), kPageSize, std::byte(page));
  const Message message = about(MessageType::kInject, 0, 0b111);
  hold(held, {kPeer, message, bytes});
  sent.release(held, message.pages, 0b010);
  sent.release(held, message.pages, 0);
  EXPECT_EQ(sent.order(), (Order{"1:0:5", "1:0:2"}));
  ASSERT_EQ(sent.payloads()[0].size(), 2 * kPageSize);
  EXPECT_EQ(sent.payloads()[0][0], std::byte(1));
  EXPECT_EQ(sent.payloads()[0][kPageSize], std::byte(3));
  ASSERT_EQ(sent.payloads()[1].size(), kPageSize);
  EXPECT_EQ(sent.payloads()[1][0], std::byte(2));
}

TEST(HeldMessages, OfAPeerThatIsGoneAreForgotten) {
  HeldMessages held(kMost);
  Sent sent;
  const Message message = about(MessageType::kGet, 0, 0b1);
  hold(held, {kPeer, message, {}});
  hold(held, {kPeer, about(MessageType::kMarker, 0, 0), {}});
  hold(held, {kOther, message, {}});
  held.forget(kPeer);
  sent.release(held, message.pages, 0);
  EXPECT_EQ(sent.order(), (Order{"2:0:1"}));
}

TEST(HeldMessages, NoMoreThanSoMuchIsHeldForAPeer) {
  constexpr std::size_t kOne = sizeof(HeldMessages::Held) + 2 * kPageSize;
  HeldMessages held(2 * kOne);
  Sent sent;
  const Message message = about(MessageType::kInject, 0, 0b11);
  const std::vector<std::byte> bytes(2 * kPageSize);
  EXPECT_TRUE(held.add({kPeer, message, bytes}));
  EXPECT_TRUE(held.add({kPeer, message, bytes}));
  EXPECT_FALSE(held.add({kPeer, message, {}}));
  EXPECT_TRUE(held.add({kOther, message, bytes}));  // each has its own bound
  // What has left, in part or whole, or is forgotten, counts no more.
  sent.release(held, message.pages, 0b01);
  EXPECT_TRUE(
      held.add({kPeer, about(MessageType::kInject, 0, 0b1), std::vector<std::byte>(kPageSize)}));
  EXPECT_FALSE(held.add({kPeer, message, bytes}));
  sent.release(held, message.pages, 0);
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(held.add({kPeer, message, bytes}));
  EXPECT_FALSE(held.add({kPeer, message, {}}));
  held.forget(kPeer);
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(held.add({kPeer, message, bytes}));
}

}  // namespace
}  // namespace gob
