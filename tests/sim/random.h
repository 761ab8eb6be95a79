// A small generator of our own, so that a seed gives the same run on every machine and library.
#pragma once

#include <cstdint>

#include "libgob/base/page_table.h"

namespace gob::sim {

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(mix64(seed + 0x9e3779b97f4a7c15ull)) {}

  std::uint64_t next() {
    state_ += 0x9e3779b97f4a7c15ull;
    return mix64(state_);
  }
  // In [0, bound), bound > 0.
  std::uint64_t below(std::uint64_t bound) {
    return static_cast<std::uint64_t>((static_cast<unsigned __int128>(next()) * bound) >> 64);
  }
  unsigned pick(unsigned bound) { return static_cast<unsigned>(below(bound)); }
  // In [low, high].
  std::uint64_t between(std::uint64_t low, std::uint64_t high) {
    return low + below(high - low + 1);
  }
  bool one_in(std::uint64_t n) { return n != 0 && below(n) == 0; }

 private:
  std::uint64_t state_;
};

}  // namespace gob::sim
