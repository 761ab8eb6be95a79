// What the ends of a link say about RDMA: round trips, and disbelief.
#include "libgob/transport/verbs_record.h"

#include <gtest/gtest.h>

#include "libgob/wire/frame.h"

namespace gob {
namespace {

VerbsOffer an_offer() {
  VerbsOffer offer;
  offer.mtu = 5;
  offer.lid = 7;
  offer.queue_pair = 0x123456;
  offer.first_psn = 0xabcdef;
  for (std::size_t i = 0; i < offer.gid.size(); ++i) offer.gid[i] = static_cast<std::byte>(i);
  offer.ring_address = 0x7f0012345000;
  offer.ring_bytes = kMinVerbsRingBytes;
  offer.ring_key = 99;
  offer.chunks = 256;
  return offer;
}

struct Split {
  std::span<const std::byte> header;
  std::span<const std::byte> payload;
};
Split split(const std::vector<std::byte>& frame) {
  const auto prefix = wire::decode_prefix(
      std::span<const std::byte, wire::kPrefixBytes>(frame.data(), wire::kPrefixBytes));
  EXPECT_EQ(prefix.frame_bytes(), frame.size());
  const auto rest = std::span(frame).subspan(wire::kPrefixBytes);
  return {rest.first(prefix.header_bytes), rest.subspan(prefix.header_bytes)};
}
bool reads(const std::vector<std::byte>& frame, VerbsRecord& record) {
  const Split parts = split(frame);
  return decode(parts.header, parts.payload, record);
}

TEST(VerbsRecord, ComesBackAsItWas) {
  VerbsRecord offer;
  offer.kind = VerbsRecordKind::kOffer;
  offer.offer = an_offer();
  VerbsRecord ready;
  ready.kind = VerbsRecordKind::kReady;
  VerbsRecord refuse;
  refuse.reason = "no room";
  VerbsRecord fall_back;
  fall_back.kind = VerbsRecordKind::kFallBack;
  fall_back.first_frame = 12345678901;
  fall_back.reason = "the cable";
  for (const VerbsRecord& said : {offer, ready, refuse, fall_back}) {
    VerbsRecord heard;
    ASSERT_TRUE(reads(encode(said), heard));
    EXPECT_EQ(heard.kind, said.kind);
    EXPECT_EQ(heard.offer, said.offer);
    EXPECT_EQ(heard.first_frame, said.first_frame);
    EXPECT_EQ(heard.reason, said.reason);
  }
}

TEST(VerbsRecord, HasTheLayoutOfTheDocument) {
  VerbsRecord offer;
  offer.kind = VerbsRecordKind::kOffer;
  offer.offer = an_offer();
  const auto frame = encode(offer);
  const auto at = [&](std::size_t offset) {
    return static_cast<unsigned>(frame[wire::kPrefixBytes + offset]);
  };
  EXPECT_EQ(frame.size(), wire::kPrefixBytes + kVerbsRecordBytes);
  EXPECT_EQ(at(0), unsigned{'R'});
  EXPECT_EQ(at(4), 1u);
  EXPECT_EQ(at(5), 5u);
  EXPECT_EQ(at(8), 0x56u);
  EXPECT_EQ(at(12), 0xefu);
  EXPECT_EQ(at(17), 1u);
  EXPECT_EQ(at(44), 99u);
}

TEST(VerbsRecord, CutsALongReasonAndPrintsNoControlCharacters) {
  VerbsRecord said;
  said.reason = "\x1b[2J" + std::string(1000, 'x');
  VerbsRecord heard;
  ASSERT_TRUE(reads(encode(said), heard));
  EXPECT_EQ(heard.reason.size(), kMaxVerbsReasonBytes);
  EXPECT_EQ(heard.reason[0], '?');
}

TEST(VerbsRecord, OfNoCorrectPeerIsNotBelieved) {
  VerbsRecord good;
  good.kind = VerbsRecordKind::kOffer;
  good.offer = an_offer();
  const auto refused = [](VerbsRecord said, auto change) {
    change(said);
    VerbsRecord heard;
    return !reads(encode(said), heard);
  };
  EXPECT_FALSE(refused(good, [](VerbsRecord&) {}));
  EXPECT_TRUE(refused(good, [](VerbsRecord& r) { r.kind = VerbsRecordKind{0}; }));
  EXPECT_TRUE(refused(good, [](VerbsRecord& r) { r.kind = VerbsRecordKind{5}; }));
  EXPECT_TRUE(refused(good, [](VerbsRecord& r) { r.kind = VerbsRecordKind::kReady; }));
  EXPECT_TRUE(refused(good, [](VerbsRecord& r) { r.offer.mtu = 0; }));
  EXPECT_TRUE(refused(good, [](VerbsRecord& r) { r.offer.mtu = 6; }));
  EXPECT_TRUE(refused(good, [](VerbsRecord& r) { r.offer.queue_pair = 1u << 24; }));
  EXPECT_TRUE(refused(good, [](VerbsRecord& r) { r.offer.first_psn = 1u << 24; }));
  EXPECT_TRUE(refused(good, [](VerbsRecord& r) { r.offer.ring_address = 0; }));
  EXPECT_TRUE(refused(good, [](VerbsRecord& r) { r.offer.ring_bytes = 4096; }));
  EXPECT_TRUE(refused(good, [](VerbsRecord& r) { r.offer.ring_bytes = ~0u; }));
  EXPECT_TRUE(refused(good, [](VerbsRecord& r) { r.offer.chunks = 0; }));
  EXPECT_TRUE(refused(good, [](VerbsRecord& r) { r.offer.chunks = 1u << 15; }));
  EXPECT_TRUE(refused(good, [](VerbsRecord& r) { r.first_frame = 1; }));
  auto frame = encode(good);
  VerbsRecord heard;
  const Split parts = split(frame);
  EXPECT_FALSE(decode(parts.header.first(kVerbsRecordBytes - 1), parts.payload, heard));
  frame[wire::kPrefixBytes] = std::byte{0};
  EXPECT_FALSE(reads(frame, heard));
}

}  // namespace
}  // namespace gob
