// What pages hold while gobbench measures, so that every byte read can be checked. Pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

#include "libgob/base/ids.h"
#include "libgob/base/page_table.h"

namespace gob::bench {

inline constexpr std::size_t kPageWords = kPageSize / sizeof(std::uint64_t);

// Word `word` of page `page`: differs from its neighbours and from zero.
constexpr std::uint64_t pattern(std::size_t page, std::size_t word) {
  return mix64(page + 1) + word;
}
// Sum of all words of the page, modulo 2^64.
constexpr std::uint64_t pattern_sum(std::size_t page) {
  return mix64(page + 1) * kPageWords + kPageWords * (kPageWords - 1) / 2;
}

// 0 ... pages - 1, ascending or shuffled.
inline std::vector<std::uint32_t> page_order(std::size_t pages, bool shuffled, std::uint64_t seed) {
  std::vector<std::uint32_t> order(pages);
  std::iota(order.begin(), order.end(), 0u);
  std::mt19937_64 random(seed);
  if (!shuffled) return order;
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random() % i]);
  return order;
}

}  // namespace gob::bench
