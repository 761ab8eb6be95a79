#include "libgob/transport/verbs_record.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "libgob/wire/frame.h"

namespace gob {
namespace {

constexpr char kMagic[4] = {'R', 'D', 'M', 'A'};

struct RecordBytes {
  char magic[4];
  std::uint8_t kind;
  std::uint8_t mtu;
  std::uint16_t lid;
  std::uint32_t queue_pair;
  std::uint32_t first_psn;
  std::byte gid[16];
  std::uint64_t ring_address;
  std::uint32_t ring_bytes;
  std::uint32_t ring_key;
  std::uint32_t chunks;
  std::uint32_t reserved;
  std::uint64_t first_frame;
};
static_assert(std::endian::native == std::endian::little);
static_assert(sizeof(RecordBytes) == kVerbsRecordBytes);
static_assert(offsetof(RecordBytes, kind) == 4);
static_assert(offsetof(RecordBytes, mtu) == 5);
static_assert(offsetof(RecordBytes, lid) == 6);
static_assert(offsetof(RecordBytes, queue_pair) == 8);
static_assert(offsetof(RecordBytes, first_psn) == 12);
static_assert(offsetof(RecordBytes, gid) == 16);
static_assert(offsetof(RecordBytes, ring_address) == 32);
static_assert(offsetof(RecordBytes, ring_bytes) == 40);
static_assert(offsetof(RecordBytes, ring_key) == 44);
static_assert(offsetof(RecordBytes, chunks) == 48);
static_assert(offsetof(RecordBytes, reserved) == 52);
static_assert(offsetof(RecordBytes, first_frame) == 56);

constexpr std::uint32_t kMaxPsn = 0xffffff;
constexpr std::uint32_t kMaxQueuePair = 0xffffff;
constexpr std::uint32_t kMaxChunks = 1u << 14;  // acknowledgements count modulo 2^16

bool plausible(const VerbsOffer& offer) {
  return offer.mtu >= 1 && offer.mtu <= 5 && offer.queue_pair <= kMaxQueuePair &&
         offer.first_psn <= kMaxPsn && offer.ring_address != 0 &&
         offer.ring_bytes >= kMinVerbsRingBytes && offer.ring_bytes <= kMaxVerbsRingBytes &&
         offer.chunks >= 1 && offer.chunks <= kMaxChunks;
}

}  // namespace

std::vector<std::byte> encode(const VerbsRecord& record) {
  RecordBytes b{};
  std::memcpy(b.magic, kMagic, sizeof kMagic);
  b.kind = static_cast<std::uint8_t>(record.kind);
  b.mtu = record.offer.mtu;
  b.lid = record.offer.lid;
  b.queue_pair = record.offer.queue_pair;
  b.first_psn = record.offer.first_psn;
  std::memcpy(b.gid, record.offer.gid.data(), sizeof b.gid);
  b.ring_address = record.offer.ring_address;
  b.ring_bytes = record.offer.ring_bytes;
  b.ring_key = record.offer.ring_key;
  b.chunks = record.offer.chunks;
  b.first_frame = record.first_frame;
  const std::size_t reason_bytes = std::min(record.reason.size(), kMaxVerbsReasonBytes);

  std::vector<std::byte> frame(wire::kPrefixBytes + sizeof b + reason_bytes);
  wire::encode_prefix({sizeof b, static_cast<std::uint32_t>(reason_bytes)},
                      std::span<std::byte, wire::kPrefixBytes>(frame.data(), wire::kPrefixBytes));
  std::memcpy(frame.data() + wire::kPrefixBytes, &b, sizeof b);
  std::memcpy(frame.data() + wire::kPrefixBytes + sizeof b, record.reason.data(), reason_bytes);
  return frame;
}

bool decode(std::span<const std::byte> header, std::span<const std::byte> payload,
            VerbsRecord& record) {
  RecordBytes b;
  if (header.size() != sizeof b || payload.size() > kMaxVerbsReasonBytes) return false;
  std::memcpy(&b, header.data(), sizeof b);
  if (std::memcmp(b.magic, kMagic, sizeof kMagic) != 0 || b.reserved != 0) return false;
  if (b.kind < 1 || b.kind > static_cast<std::uint8_t>(VerbsRecordKind::kFallBack)) return false;
  VerbsRecord read;
  read.kind = static_cast<VerbsRecordKind>(b.kind);
  read.offer = {.mtu = b.mtu,
                .lid = b.lid,
                .queue_pair = b.queue_pair,
                .first_psn = b.first_psn,
                .gid = {},
                .ring_address = b.ring_address,
                .ring_bytes = b.ring_bytes,
                .ring_key = b.ring_key,
                .chunks = b.chunks};
  std::memcpy(read.offer.gid.data(), b.gid, sizeof b.gid);
  if (read.kind == VerbsRecordKind::kOffer ? !plausible(read.offer) : read.offer != VerbsOffer{}) {
    return false;
  }
  read.first_frame = b.first_frame;
  if (read.kind != VerbsRecordKind::kFallBack && read.first_frame != 0) return false;
  read.reason.assign(reinterpret_cast<const char*>(payload.data()), payload.size());
  // It goes into a log.
  std::replace_if(
      read.reason.begin(), read.reason.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  record = std::move(read);
  return true;
}

}  // namespace gob
