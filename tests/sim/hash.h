// Content hashes for the parts of a checked state. Not for anything that leaves the process.
#pragma once

#include <cstdint>

#include "libgob/base/page_table.h"
#include "tests/sim/geometry.h"

namespace gob::sim {

class Hash {
 public:
  void add(std::uint64_t word) { state_ = mix64(state_ * 0x9e3779b97f4a7c15ull + word + 1); }
  [[nodiscard]] std::uint64_t value() const { return state_; }

 private:
  std::uint64_t state_ = 0x51ed270b7a3c1f4dull;
};

inline void add(Hash& hash, PageSet set) {
  hash.add((std::uint64_t{set.container.value()} << 40) | set.stripe);
  hash.add(set.mask);
}

inline void add(Hash& hash, const Message& m) {
  hash.add(static_cast<std::uint64_t>(m.type) | static_cast<std::uint64_t>(m.payload) << 8 |
           static_cast<std::uint64_t>(m.refusal) << 16 |
           static_cast<std::uint64_t>(m.holding) << 24 | std::uint64_t{m.confirm} << 32 |
           std::uint64_t{m.accepted} << 33 | std::uint64_t{m.leaving} << 34 |
           std::uint64_t{m.sole} << 35 | std::uint64_t{m.device} << 36 |
           std::uint64_t{m.dirty} << 37 | std::uint64_t{m.written} << 38);
  hash.add(std::uint64_t{m.requester.value()} << 16 | m.node.value());
  hash.add(std::uint64_t{m.acks} << 32 | m.free_frames);
  hash.add(m.epoch.value());
  add(hash, m.pages);
  hash.add(m.ahead);
}

inline void add(Hash& hash, const Packet& packet) {
  add(hash, packet.message);
  for (const Value value : packet.bytes) hash.add(value);
}

}  // namespace gob::sim
