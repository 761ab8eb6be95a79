// What programs read and wrote in one run, and whether it is sequentially consistent: is there one
// order of all accesses, to all pages, that keeps each thread's own order and in which every read
// returns the write before it? Knows nothing of the protocol, nor of when anything happened except
// in which order each page was written. A regular value.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tests/sim/geometry.h"

namespace gob::sim {

struct HistoryAccess {
  NodeId node;
  unsigned thread = 0;
  unsigned page = 0;
  bool write = false;
  Value value = 0;  // read or written; no page is written the same value twice, or 0
};

class History {
 public:
  // In the order of completion: of one thread, that of its program; of writes to one page, the
  // order in which the page took them.
  void add(const HistoryAccess& access) { accesses_.push_back(access); }
  [[nodiscard]] const std::vector<HistoryAccess>& accesses() const { return accesses_; }

  // Words for a cycle of accesses each of which must come before the next, for a value that nobody
  // wrote, or empty. Pages for which `ignored` holds are left out. Linear in the accesses.
  [[nodiscard]] std::string check(const std::function<bool(unsigned page)>& ignored) const;

 private:
  std::vector<HistoryAccess> accesses_;
};

}  // namespace gob::sim
