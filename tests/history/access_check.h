// Checks what programs saw: a history of reads and writes, each with the times between which it
// happened. Every write puts a value of its own, so it is known which write each read saw, and
// checking takes n log n steps (Gibbons and Korach, "Testing shared memories", 1997).
//
// Linearizability is checked for each location alone, which suffices for all together (Herlihy and
// Wing, 1990); sequential consistency of all together is checked once more without the clock, from
// the orders of programs, values and writes.
#pragma once

#include <cstdint>
#include <vector>

#include "libgob/base/ids.h"
#include "tests/history/findings.h"

namespace gob::history {

struct LoggedAccess {
  enum class Kind : std::uint8_t { kNone, kRead, kWrite };
  static constexpr std::uint64_t kNever = ~std::uint64_t{0};

  std::uint64_t begin_ns = 0;
  std::uint64_t end_ns = kNever;  // kNever: it was under way when the program ended
  std::uint64_t value = 0;        // written or seen; 0 is what a location holds at first
  std::uint32_t location = 0;
  Kind kind = Kind::kNone;
  bool timeless = false;  // a read on a node that was cut off: only its place in the order counts
};

// The accesses of one thread, in its program's order.
using ThreadLog = std::vector<LoggedAccess>;

[[nodiscard]] Findings check_accesses(const std::vector<ThreadLog>& threads);

}  // namespace gob::history
