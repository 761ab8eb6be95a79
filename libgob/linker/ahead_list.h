// AheadList: pages asked for ahead of need, by mapping, until they arrive: then they are mapped for
// that mapping although nobody waits for them. A bounded hint: when more is asked than it holds the
// oldest is forgotten, and costs a minor fault later. Owned by the shard's thread.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "libgob/linker/mapping.h"
#include "libgob/linker/waiting_list.h"

namespace gob {

class AheadList {
 public:
  // `unmapped`: those of `pages` that must fault although they are here.
  void add(Mapping& mapping, PageSet pages, std::uint64_t unmapped);
  // Adds what is to be mapped with `pages` to the demands, and forgets these pages.
  void collect(PageSet pages, std::vector<Demand>& out);
  void remove(const Mapping& mapping);

 private:
  static constexpr std::size_t kEntries = 64;
  struct Entry {
    Mapping* mapping = nullptr;  // null: free
    PageSet pages;               // still to come
    std::uint64_t unmapped = 0;
  };

  std::array<Entry, kEntries> entries_;
  std::size_t next_ = 0;  // the oldest
  std::size_t used_ = 0;
};

}  // namespace gob
