// What a shard counts, for `gobctl stat`. Written by the shard's thread, copied on its thread.
#pragma once

#include <cstdint>

#include "libgob/base/histogram.h"
#include "libgob/runtime/bounce_sketch.h"

namespace gob {

// Of one container on one shard. Histograms are in nanoseconds from reading the fault to waking the
// program; page counts are pages, not messages.
struct ContainerCounters {
  Histogram read_faults;   // the page was not here and came readable (get_page)
  Histogram write_faults;  // the page was not here and came writable (grab_page)
  Histogram upgrades;      // the page was readable here and became writable
  std::uint64_t bytes_in = 0;
  std::uint64_t bytes_out = 0;
  std::uint64_t messages_in = 0;
  std::uint64_t messages_out = 0;
  std::uint64_t invalidations_in = 0;
  std::uint64_t invalidations_out = 0;
  std::uint64_t injections_in = 0;
  std::uint64_t injections_out = 0;
  std::uint64_t swap_in = 0;
  std::uint64_t swap_out = 0;
  std::uint64_t refused = 0;
  BounceSketch bounces;
};

}  // namespace gob
