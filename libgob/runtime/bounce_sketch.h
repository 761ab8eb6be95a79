// The pages of a container that move most between nodes, in constant space: the space-saving sketch
// of Metwally, Agrawal and El Abbadi (2005). A page that bounces more often than 1/kEntries of all
// moves is certain to be in it; its count is too high by at most the smallest count kept. One
// thread writes.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "libgob/base/ids.h"

namespace gob {

class BounceSketch {
 public:
  struct Entry {
    PageIndex page;
    std::uint64_t count = 0;
  };
  static constexpr std::size_t kEntries = 64;

  void add(PageIndex page) {
    Entry* smallest = &entries_[0];
    for (Entry& entry : entries_) {
      if (entry.count != 0 && entry.page == page) {
        ++entry.count;
        return;
      }
      if (entry.count < smallest->count) smallest = &entry;
    }
    smallest->page = page;
    ++smallest->count;
  }

  void merge_into(std::vector<Entry>& all) const {
    for (const Entry& entry : entries_)
      if (entry.count != 0) all.push_back(entry);
  }

  // The `most` entries with the highest counts, highest first.
  static void keep_top(std::vector<Entry>& all, std::size_t most) {
    std::ranges::sort(all, [](const Entry& a, const Entry& b) {
      return a.count != b.count ? a.count > b.count : a.page < b.page;
    });
    if (all.size() > most) all.resize(most);
  }

 private:
  std::array<Entry, kEntries> entries_{};
};

}  // namespace gob
