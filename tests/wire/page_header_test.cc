// The page message codec: every message survives, every illegal byte is refused by name.
#include "libgob/wire/page_header.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "libgob/wire/frame.h"

namespace gob::wire {
namespace {

using Bytes = std::array<std::byte, kPageHeaderBytes>;

Message page_message() {
  Message m;
  m.type = MessageType::kGrant;
  m.payload = Payload::kMove;
  m.refusal = Refusal::kRange;
  m.holding = Holding::kSole;
  m.confirm = true;
  m.leaving = true;
  m.requester = NodeId{0x0102};
  m.node = kNoNode;
  m.acks = kMaxNodes;
  m.free_frames = 0xa1b2c3d4;
  m.epoch = Epoch{0x1122334455667788};
  m.pages = {ContainerId{kMaxContainerId}, kMaxPages / kStripePages - 1, 0xf0f0};
  m.ahead = 0x00f0;
  return m;
}

Bytes encoded(const Message& message) {
  Bytes bytes{};
  encode(message, bytes);
  return bytes;
}

template <class T>
void put(Bytes& bytes, std::size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}
template <class T>
T get(const Bytes& bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

void expect_refused(const Bytes& bytes, const std::string& field) {
  const auto result = decode(bytes);
  ASSERT_FALSE(result.ok()) << field;
  EXPECT_EQ(result.error().code, ErrorCode::kProtocol);
  EXPECT_NE(result.error().context.find("'" + field + "'"), std::string::npos)
      << result.error().context;
}

TEST(PageHeader, FieldsLieWhereTheTableSays) {
  const Bytes b = encoded(page_message());
  EXPECT_EQ(get<std::uint8_t>(b, 0), kVersion);
  EXPECT_EQ(get<std::uint8_t>(b, 1), static_cast<std::uint8_t>(MessageType::kGrant));
  EXPECT_EQ(get<std::uint8_t>(b, 2), static_cast<std::uint8_t>(Payload::kMove));
  EXPECT_EQ(get<std::uint8_t>(b, 3), static_cast<std::uint8_t>(Refusal::kRange));
  EXPECT_EQ(get<std::uint8_t>(b, 4), static_cast<std::uint8_t>(Holding::kSole));
  EXPECT_EQ(get<std::uint8_t>(b, 5), 0b101);
  EXPECT_EQ(get<std::uint16_t>(b, 6), 0);
  EXPECT_EQ(get<std::uint16_t>(b, 8), 0x0102);
  EXPECT_EQ(get<std::uint16_t>(b, 10), kNoNode.value());
  EXPECT_EQ(get<std::uint32_t>(b, 12), kMaxNodes);
  EXPECT_EQ(get<std::uint32_t>(b, 16), 0xa1b2c3d4u);
  EXPECT_EQ(get<std::uint32_t>(b, 20), kMaxContainerId);
  EXPECT_EQ(get<std::uint64_t>(b, 24), 0x1122334455667788u);
  EXPECT_EQ(get<std::uint64_t>(b, 32), kMaxPages / kStripePages - 1);
  EXPECT_EQ(get<std::uint64_t>(b, 40), 0xf0f0u);
  EXPECT_EQ(get<std::uint64_t>(b, 48), 0x00f0u);
}

TEST(PageHeader, EveryTypeSurvives) {
  for (int type = 1; type <= static_cast<int>(kLastMessageType); ++type) {
    Message m;
    m.type = static_cast<MessageType>(type);
    m.epoch = Epoch{7};
    if (m.type != MessageType::kMarker && m.type != MessageType::kReportEnd) {
      m.pages = {ContainerId{3}, 5, 0b1011};
    }
    const auto result = decode(encoded(m));
    ASSERT_TRUE(result.ok()) << type << ": " << result.error().context;
    EXPECT_EQ(*result, m);
  }
}

TEST(PageHeader, RandomLegalMessagesSurvive) {
  std::mt19937_64 random(20240229);
  constexpr std::array kPayloadTypes = {MessageType::kPage, MessageType::kGrant,
                                        MessageType::kInject};
  for (int i = 0; i < 20000; ++i) {
    Message m;
    m.type = kPayloadTypes[random() % kPayloadTypes.size()];
    m.payload = static_cast<Payload>(random() % 4);
    m.refusal = static_cast<Refusal>(random() % 9);
    m.holding = static_cast<Holding>(random() % 4);
    m.confirm = random() & 1;
    m.accepted = random() & 1;
    m.leaving = random() & 1;
    m.sole = random() & 1;
    m.device = random() & 1;
    m.dirty = random() & 1;
    m.written = random() & 1;
    m.requester = random() & 1 ? kNoNode : NodeId{static_cast<std::uint16_t>(random() % kMaxNodes)};
    m.node = random() & 1 ? kNoNode : NodeId{static_cast<std::uint16_t>(random() % kMaxNodes)};
    m.acks = static_cast<std::uint32_t>(random() % (kMaxNodes + 1));
    m.free_frames = static_cast<std::uint32_t>(random());
    m.epoch = Epoch{random()};
    m.pages = {ContainerId{static_cast<std::uint32_t>(1 + random() % kMaxContainerId)},
               random() % (kMaxPages / kStripePages), random() | 1};
    m.ahead = m.pages.mask & random();
    const auto result = decode(encoded(m));
    ASSERT_TRUE(result.ok()) << result.error().context;
    ASSERT_EQ(*result, m);
  }
}

TEST(PageHeader, WhateverDecodesEncodesToTheSameBytes) {
  std::mt19937_64 random(4384);
  const Bytes good = encoded(page_message());
  int accepted = 0;
  for (int i = 0; i < 200000; ++i) {
    Bytes bytes = good;
    bytes[random() % bytes.size()] = static_cast<std::byte>(random());
    const auto result = decode(bytes);
    if (!result.ok()) continue;
    ++accepted;
    ASSERT_EQ(encoded(*result), bytes);
  }
  EXPECT_GT(accepted, 1000);
}

TEST(PageHeader, RefusesOtherSizes) {
  const std::vector<std::byte> bytes(kPageHeaderBytes + 1);
  for (const std::size_t size : {std::size_t{0}, kPageHeaderBytes - 1, kPageHeaderBytes + 1}) {
    EXPECT_FALSE(decode(std::span(bytes).first(size)).ok()) << size;
  }
}

TEST(PageHeader, RefusesEachFieldOutOfRange) {
  const Bytes good = encoded(page_message());
  const auto refuse = [&](std::size_t offset, auto value, const std::string& field) {
    Bytes bytes = good;
    put(bytes, offset, value);
    expect_refused(bytes, field);
  };
  refuse(0, std::uint8_t{2}, "version");
  refuse(1, std::uint8_t{0}, "type");
  refuse(1, static_cast<std::uint8_t>(static_cast<int>(kLastMessageType) + 1), "type");
  refuse(2, std::uint8_t{4}, "payload");
  refuse(3, std::uint8_t{9}, "refusal");
  refuse(4, std::uint8_t{4}, "holding");
  refuse(5, std::uint8_t{128}, "flags");
  refuse(6, std::uint16_t{1}, "reserved");
  refuse(8, std::uint16_t{kMaxNodes}, "requester");
  refuse(10, std::uint16_t{0x1000}, "node");
  refuse(12, std::uint32_t{kMaxNodes + 1}, "acks");
  refuse(20, std::uint32_t{0}, "container");
  refuse(20, std::uint32_t{kMaxContainerId + 1}, "container");
  refuse(32, std::uint64_t{kMaxPages / kStripePages}, "stripe");
  refuse(40, std::uint64_t{0}, "mask");
  refuse(48, std::uint64_t{0x0f00}, "ahead");
}

TEST(PageHeader, OnlyServersAndInjectorsSendPayload) {
  for (int type = 1; type <= static_cast<int>(kLastMessageType); ++type) {
    Bytes bytes = encoded(page_message());
    put(bytes, 1, static_cast<std::uint8_t>(type));
    const auto t = static_cast<MessageType>(type);
    const bool may =
        t == MessageType::kPage || t == MessageType::kGrant || t == MessageType::kInject;
    EXPECT_EQ(decode(bytes).ok(), may) << type;
  }
}

TEST(PageHeader, MarkersSpeakOfNoPages) {
  for (const MessageType type : {MessageType::kMarker, MessageType::kReportEnd}) {
    Message m;
    m.type = type;
    m.pages = {ContainerId{1}, 0, 0};
    expect_refused(encoded(m), "container");
    m.pages = {ContainerId{0}, 1, 0};
    expect_refused(encoded(m), "stripe");
    m.pages = {ContainerId{0}, 0, 1};
    expect_refused(encoded(m), "mask");
    m.pages = {};
    m.ahead = 1;
    expect_refused(encoded(m), "ahead");
  }
}

TEST(PageHeader, PayloadIsOnePageForEachBitWhenBytesTravel) {
  Message m = page_message();
  EXPECT_EQ(payload_bytes(m), 8 * kPageSize);
  m.payload = Payload::kCopy;
  EXPECT_EQ(payload_bytes(m), 8 * kPageSize);
  m.payload = Payload::kZero;
  EXPECT_EQ(payload_bytes(m), 0u);
  m.payload = Payload::kNone;
  EXPECT_EQ(payload_bytes(m), 0u);
  m.payload = Payload::kCopy;
  m.pages.mask = ~std::uint64_t{0};
  EXPECT_EQ(payload_bytes(m), kMaxPagePayloadBytes);
}

}  // namespace
}  // namespace gob::wire
