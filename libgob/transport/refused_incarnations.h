// Which incarnations of a peer are refused, since a link to them broke. Remembers the latest few: a
// process that was restarted so often since cannot still be there. Owned by the set-up thread.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace gob {

class RefusedIncarnations {
 public:
  static constexpr std::size_t kRemembered = 16;

  void add(std::uint64_t incarnation) {
    if (has(incarnation)) return;
    values_[next_] = incarnation;
    next_ = (next_ + 1) % kRemembered;
  }
  // 0 is no incarnation and never refused.
  [[nodiscard]] bool has(std::uint64_t incarnation) const {
    return incarnation != 0 &&
           std::find(values_.begin(), values_.end(), incarnation) != values_.end();
  }
  void clear() { values_.fill(0); }

 private:
  std::array<std::uint64_t, kRemembered> values_{};
  std::size_t next_ = 0;
};

}  // namespace gob
