// WaitingList: the faults of this shard's pages that are not resolved yet, and thus the threads of
// programs that stand still. One record for each page and mapping; bounded by the number of those
// threads. Owned by the shard's thread.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "libgob/base/page_set.h"
#include "libgob/linker/mapping.h"

namespace gob {

// What one mapping waits for, or is to get ahead of need, among the pages of one stripe.
struct Demand {
  Mapping* mapping = nullptr;
  std::uint64_t waiting = 0;          // mask: threads stand still
  std::uint64_t write_protected = 0;  // of these: mapped for reading, a write is tried
  std::uint64_t ahead = 0;            // mask: nobody waits, but map them with the others
};

class WaitingList {
 public:
  // True if this is news: the page was not waited for, or for less access.
  bool add(const Fault& fault, Mapping& mapping, std::uint64_t now_ns);
  // Appends one Demand for each mapping that waits for a page of the set.
  void collect(PageSet pages, std::vector<Demand>& out) const;
  void remove(PageSet pages);
  void remove(const Mapping& mapping);
  // The frames of these pages leave the mappings: who waits to write waits for a whole page now.
  void unmapped(PageSet pages);
  // The pages waited for since before `since_ns`, one set for each stripe.
  void overdue(std::uint64_t since_ns, std::vector<PageSet>& out) const;
  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  struct Waiter {
    Mapping* mapping;
    std::uint8_t bit;  // in the stripe
    Access access;
    FaultKind kind;
    std::uint64_t since_ns;
  };
  struct Key {
    ContainerId container;
    std::uint64_t stripe;
    friend bool operator==(const Key&, const Key&) = default;
  };
  struct Hash {
    std::size_t operator()(const Key& key) const noexcept;
  };
  template <class F>
  void remove_if(const Key& key, F&& matches);

  std::unordered_map<Key, std::vector<Waiter>, Hash> stripes_;  // no vector is empty
  std::size_t size_ = 0;
};

}  // namespace gob
