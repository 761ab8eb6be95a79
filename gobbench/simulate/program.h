// What a simulated program does: a sequence of accesses to pages, computing, and barriers, made up
// step by step. The access patterns of the parallel programs are patterns.h.
#pragma once

#include <array>
#include <cstdint>

#include "gobbench/simulate/timing.h"
#include "libgob/base/ids.h"
#include "libgob/protocol/event.h"

namespace gob::bench {

struct PageRange {
  PageId first;
  std::uint32_t pages = 0;
  Access access = Access::kRead;
};

// Touches the pages of each range one after the other, then computes; or something else at once.
struct ProgramStep {
  enum class Kind : std::uint8_t {
    kWork,
    kBarrier,     // all programs of the cluster meet
    kStartClock,  // the part that is measured begins
    kEnd,
  };
  static constexpr unsigned kMaxRanges = 4;

  Kind kind = Kind::kEnd;
  std::array<PageRange, kMaxRanges> ranges{};
  unsigned range_count = 0;
  SimTime compute_ns = 0;

  void touch(const PageRange& range) {
    if (range.pages != 0) ranges[range_count++] = range;
  }
};

class Program {
 public:
  virtual ~Program() = default;
  // After kEnd it is not asked again.
  virtual ProgramStep next() = 0;
};

}  // namespace gob::bench
