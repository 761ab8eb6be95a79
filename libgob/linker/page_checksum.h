// A 32-bit checksum of a page that went to a device, to know it again when it comes back. Not
// cryptographic: it guards against broken and misplaced blocks, not against malice. Any thread.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "libgob/base/ids.h"
#include "libgob/base/page_table.h"

namespace gob {

// `key` goes into the sum, so that another page's sound bytes do not pass for this one's.
inline std::uint32_t page_checksum(PageKey key, const std::byte* page) {
  // Four lanes, so that the multiplications overlap.
  std::uint64_t lanes[4] = {key ^ 0x9e3779b97f4a7c15u, key ^ 0xc2b2ae3d27d4eb4fu,
                            key ^ 0x165667b19e3779f9u, key ^ 0x27d4eb2f165667c5u};
  for (std::size_t at = 0; at < kPageSize; at += sizeof lanes) {
    std::uint64_t words[4];
    std::memcpy(words, page + at, sizeof words);
    for (int i = 0; i < 4; ++i)
      lanes[i] = std::rotl((lanes[i] ^ words[i]) * 0xff51afd7ed558ccdu, 29);
  }
  std::uint64_t sum = 0;
  for (const std::uint64_t lane : lanes) sum = mix64(sum ^ lane);
  return static_cast<std::uint32_t>(sum ^ (sum >> 32));
}

}  // namespace gob
