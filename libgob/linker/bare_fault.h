// What a fault costs with no protocol behind it: the baseline that measurements of misses are put
// against. Any thread; forks a process for the time of the call.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "libgob/base/result.h"

namespace gob {

enum class FaultWait : std::uint8_t {
  kBlocking,  // the answering process sleeps until a fault comes
  kPolling,   // it asks again and again
};

// Another process touches `rounds` (1 to 1,000,000) fresh pages of a shared mapping, one after the
// other; this one answers each with one UFFDIO_COPY. Returns the nanoseconds each touch took, in
// order. Before each page the process sweeps over `swept` (cache_sweep.h), which is not timed.
Result<std::vector<std::uint64_t>> measure_bare_fault(unsigned rounds, FaultWait wait,
                                                      std::span<double> swept = {});

}  // namespace gob
