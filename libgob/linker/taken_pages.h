// TakenPages: which pages leave a linked file while it is written to its disk. What was dirty in a page
// that leaves is on no disk then. Any thread.
#pragma once

#include <cstdint>
#include <mutex>
#include <set>
#include <vector>

#include "libgob/base/ids.h"

namespace gob {

class TakenPages {
 public:
  // From now on these pages are watched, and no others.
  void watch(std::uint64_t first, std::uint64_t count);
  void watch_none() { watch(0, 0); }
  // Before the pages are taken, so that whoever finds one gone finds it noted.
  void note(PageIndex first, std::uint64_t count);
  // Those that left since watch(), ascending.
  [[nodiscard]] std::vector<std::uint64_t> taken() const;

 private:
  mutable std::mutex mutex_;
  std::uint64_t first_ = 0;
  std::uint64_t count_ = 0;
  std::set<std::uint64_t> taken_;
};

}  // namespace gob
