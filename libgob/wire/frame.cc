#include "libgob/wire/frame.h"

#include <bit>
#include <cstring>

namespace gob::wire {

static_assert(std::endian::native == std::endian::little, "the wire is little-endian, so are we");
static_assert(sizeof(Prefix) == kPrefixBytes);
static_assert(offsetof(Prefix, header_bytes) == 0);
static_assert(offsetof(Prefix, payload_bytes) == 4);

void encode_prefix(Prefix prefix, std::span<std::byte, kPrefixBytes> out) {
  std::memcpy(out.data(), &prefix, kPrefixBytes);
}

Prefix decode_prefix(std::span<const std::byte, kPrefixBytes> in) {
  Prefix prefix;
  std::memcpy(&prefix, in.data(), kPrefixBytes);
  return prefix;
}

}  // namespace gob::wire
