// The frame prefix: layout and bounds.
#include "libgob/wire/frame.h"

#include <gtest/gtest.h>

#include <array>

namespace gob::wire {
namespace {

TEST(Frame, PrefixIsLittleEndianHeaderThenPayload) {
  std::array<std::byte, kPrefixBytes> bytes{};
  encode_prefix({.header_bytes = 0x04030201, .payload_bytes = 0x08070605}, bytes);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    EXPECT_EQ(static_cast<std::size_t>(bytes[i]), i + 1);
  }
}

TEST(Frame, PrefixSurvivesEncodingAndDecoding) {
  std::array<std::byte, kPrefixBytes> bytes{};
  encode_prefix({.header_bytes = 56, .payload_bytes = 262144}, bytes);
  const Prefix prefix = decode_prefix(bytes);
  EXPECT_EQ(prefix.header_bytes, 56u);
  EXPECT_EQ(prefix.payload_bytes, 262144u);
  EXPECT_EQ(prefix.frame_bytes(), 8u + 56u + 262144u);
}

TEST(Frame, BoundsAreInclusive) {
  EXPECT_TRUE(acceptable({0, 0}, kMaxPagePayloadBytes));
  EXPECT_TRUE(acceptable({kMaxHeaderBytes, kMaxPagePayloadBytes}, kMaxPagePayloadBytes));
  EXPECT_FALSE(acceptable({kMaxHeaderBytes + 1, 0}, kMaxPagePayloadBytes));
  EXPECT_FALSE(acceptable({0, kMaxPagePayloadBytes + 1}, kMaxPagePayloadBytes));
  EXPECT_FALSE(acceptable({0xffffffff, 0xffffffff}, kMaxControlPayloadBytes));
}

}  // namespace
}  // namespace gob::wire
