#include "libgob/linker/taken_pages.h"

#include <algorithm>

namespace gob {

void TakenPages::watch(std::uint64_t first, std::uint64_t count) {
  const std::lock_guard lock(mutex_);
  first_ = first;
  count_ = count;
  taken_.clear();
}

void TakenPages::note(PageIndex first, std::uint64_t count) {
  const std::lock_guard lock(mutex_);
  const std::uint64_t end = std::min(first.value() + count, first_ + count_);
  for (std::uint64_t page = std::max(first.value(), first_); page < end; ++page)
    taken_.insert(page);
}

std::vector<std::uint64_t> TakenPages::taken() const {
  const std::lock_guard lock(mutex_);
  return {taken_.begin(), taken_.end()};
}

}  // namespace gob
