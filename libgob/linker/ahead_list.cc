#include "libgob/linker/ahead_list.h"

#include <algorithm>

namespace gob {

void AheadList::add(Mapping& mapping, PageSet pages, std::uint64_t unmapped) {
  if (pages.empty()) return;
  Entry& entry = entries_[next_];
  next_ = (next_ + 1) % kEntries;
  if (entry.mapping == nullptr) ++used_;
  entry = {&mapping, pages, unmapped};
}

void AheadList::collect(PageSet pages, std::vector<Demand>& out) {
  if (used_ == 0) return;
  for (Entry& entry : entries_) {
    if (entry.mapping == nullptr || entry.pages.container != pages.container ||
        entry.pages.stripe != pages.stripe)
      continue;
    const std::uint64_t arrived = entry.pages.mask & pages.mask;
    if (arrived == 0) continue;
    const std::uint64_t ahead = arrived & ~entry.unmapped;
    if (ahead != 0) {
      auto demand = std::find_if(out.begin(), out.end(), [&](const Demand& candidate) {
        return candidate.mapping == entry.mapping;
      });
      if (demand == out.end()) demand = out.insert(out.end(), Demand{entry.mapping});
      demand->ahead |= ahead;
    }
    entry.pages.mask &= ~arrived;
    if (entry.pages.empty()) {
      entry.mapping = nullptr;
      --used_;
    }
  }
}

void AheadList::remove(const Mapping& mapping) {
  for (Entry& entry : entries_) {
    if (entry.mapping != &mapping) continue;
    entry.mapping = nullptr;
    --used_;
  }
}

}  // namespace gob
