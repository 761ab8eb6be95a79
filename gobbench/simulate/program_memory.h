// ProgramMemory: the pages that a simulated node's program has mapped, and what changing that
// costs. What the map linker does with the core's actions (libgob/linker/map_linker.h), without a
// kernel under it. One program, with one thread. Values; one thread.
#pragma once

#include <array>
#include <cstdint>

#include "gobbench/simulate/timing.h"
#include "libgob/base/page_set.h"
#include "libgob/base/page_table.h"
#include "libgob/protocol/event.h"

namespace gob::bench {

class ProgramMemory {
 public:
  explicit ProgramMemory(const Timing& timing) : timing_(&timing) {}

  [[nodiscard]] bool allows(PageId page, Access access) const;
  // How many of the pages from `first` on allow it, up to the first that does not; at most `count`.
  [[nodiscard]] std::uint32_t allowed_from(PageId first, std::uint32_t count, Access access) const;
  // The program stands still until one of these pages (of one stripe) is granted.
  void wait_for(PageSet pages) { waiting_ = pages; }
  [[nodiscard]] bool waits() const { return !waiting_.empty(); }
  // Asked for ahead of need: to be mapped on arrival, but for those in `unmapped`.
  void expect(PageSet pages, std::uint64_t unmapped);

  // Each returns the nanoseconds that gobd works.
  // action::Install and action::Map: pages that are waited for or expected are mapped; with
  // `stores`, the others take their bytes all the same.
  SimTime grant(PageSet pages, Access access, bool stores);
  // action::Downgrade.
  SimTime protect(PageSet pages);
  // action::Invalidate, and the first half of a move.
  SimTime unmap(PageSet pages);
  // Reading frames to send them.
  [[nodiscard]] SimTime load(PageSet pages) const;

 private:
  // As AheadList: beyond so many, the oldest is forgotten.
  static constexpr std::size_t kExpected = 64;
  struct Expected {
    PageSet pages;
    std::uint64_t unmapped = 0;
  };

  // Of the pages of a stripe, as masks.
  struct Rights {
    std::uint64_t readable = 0;
    std::uint64_t writable = 0;
    [[nodiscard]] std::uint64_t of(Access access) const {
      return access == Access::kWrite ? writable : readable;
    }
  };

  [[nodiscard]] static PageKey stripe_key(PageSet pages) {
    return key_of({pages.container, PageIndex{pages.stripe}});
  }
  std::uint64_t take_expected(PageSet pages);
  [[nodiscard]] SimTime cost_of_runs(PageSet pages, double first_us, double next_us) const;

  const Timing* timing_;
  PageTable<Rights> rights_;  // by stripe_key()
  PageSet waiting_;
  std::array<Expected, kExpected> expected_{};
  std::size_t next_expected_ = 0;
};

}  // namespace gob::bench
