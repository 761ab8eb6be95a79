// The frame: how one message lies in the byte stream of a peer link. Pure functions, any thread.
//
//   offset  size            field
//   0       4               header_bytes   bytes of the header, at most kMaxHeaderBytes
//   4       4               payload_bytes  bytes of the payload, at most the channel's limit
//   8       header_bytes    header         shard channels: page_header.h; control channel: empty
//   ...     payload_bytes   payload        shard channels: whole pages; control channel: protobuf
//
// Integers are little-endian. No padding: a shard's frames are 64 bytes plus whole pages, so a
// payload keeps the alignment of the buffer that the stream was read into. See docs/WIRE.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "libgob/base/ids.h"

namespace gob::wire {

// Version of everything here and in page_header.h; the peer handshake compares it.
inline constexpr std::uint16_t kVersion = 1;

inline constexpr std::size_t kPrefixBytes = 8;
inline constexpr std::size_t kMaxHeaderBytes = 4096;
inline constexpr std::size_t kMaxPagePayloadBytes = kStripePages * kPageSize;          // shards
inline constexpr std::size_t kMaxControlPayloadBytes = std::size_t{16} * 1024 * 1024;  // control

struct Prefix {
  std::uint32_t header_bytes = 0;
  std::uint32_t payload_bytes = 0;

  [[nodiscard]] constexpr std::size_t frame_bytes() const {
    return kPrefixBytes + header_bytes + payload_bytes;
  }
};

void encode_prefix(Prefix prefix, std::span<std::byte, kPrefixBytes> out);
[[nodiscard]] Prefix decode_prefix(std::span<const std::byte, kPrefixBytes> in);

// False if no correct peer sends such a frame on a channel whose payloads are at most
// `max_payload`.
[[nodiscard]] constexpr bool acceptable(Prefix prefix, std::size_t max_payload) {
  return prefix.header_bytes <= kMaxHeaderBytes && prefix.payload_bytes <= max_payload;
}

}  // namespace gob::wire
