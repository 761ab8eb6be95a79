// A set of pages inside one stripe: the unit in which the protocol speaks of runs of pages.
// A stripe is kStripePages neighbouring pages of a container, aligned; they share a page manager.
#pragma once

#include <bit>
#include <cstdint>

#include "libgob/base/ids.h"

namespace gob {

struct PageSet {
  ContainerId container;
  std::uint64_t stripe = 0;  // page index / kStripePages
  std::uint64_t mask = 0;    // bit i: page stripe * kStripePages + i

  static constexpr PageSet of(PageId id) {
    return {id.container, id.page.value() / kStripePages,
            std::uint64_t{1} << (id.page.value() % kStripePages)};
  }
  [[nodiscard]] constexpr bool empty() const { return mask == 0; }
  [[nodiscard]] constexpr unsigned size() const {
    return static_cast<unsigned>(std::popcount(mask));
  }
  [[nodiscard]] constexpr bool contains(PageIndex page) const {
    return page.value() / kStripePages == stripe && ((mask >> (page.value() % kStripePages)) & 1);
  }
  [[nodiscard]] constexpr PageIndex first_of_stripe() const {
    return PageIndex{stripe * kStripePages};
  }
  // The highest page of the set, which must not be empty.
  [[nodiscard]] constexpr PageIndex last() const {
    return PageIndex{stripe * kStripePages + 63 - static_cast<unsigned>(std::countl_zero(mask))};
  }
  // Place of `page` among the pages of the set in ascending order: its slot in a payload.
  [[nodiscard]] constexpr unsigned rank(PageIndex page) const {
    const unsigned bit = static_cast<unsigned>(page.value() % kStripePages);
    return static_cast<unsigned>(std::popcount(mask & ((std::uint64_t{1} << bit) - 1)));
  }
  // The same stripe with another mask.
  [[nodiscard]] constexpr PageSet with(std::uint64_t other_mask) const {
    return {container, stripe, other_mask};
  }
  friend constexpr auto operator<=>(const PageSet&, const PageSet&) = default;
};

// Calls f(PageId) for each page of the set, ascending.
template <class F>
constexpr void for_each_page(PageSet set, F&& f) {
  for (std::uint64_t rest = set.mask; rest != 0; rest &= rest - 1) {
    const auto bit = static_cast<unsigned>(std::countr_zero(rest));
    f(PageId{set.container, PageIndex{set.stripe * kStripePages + bit}});
  }
}

// Calls f(PageIndex first, unsigned count) for each maximal run of neighbours, ascending: what one
// kernel call can take.
template <class F>
constexpr void for_each_run(PageSet set, F&& f) {
  std::uint64_t rest = set.mask;
  while (rest != 0) {
    const auto first = static_cast<unsigned>(std::countr_zero(rest));
    const auto count = static_cast<unsigned>(std::countr_one(rest >> first));
    f(PageIndex{set.stripe * kStripePages + first}, count);
    if (first + count >= kStripePages) break;
    rest &= ~std::uint64_t{0} << (first + count);
  }
}

}  // namespace gob
