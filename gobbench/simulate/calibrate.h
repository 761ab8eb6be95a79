// The parameters of this machine as a simulated cluster of two nodes with a core each, measured
// part by part: nothing that a validation compares with is used for them.
#pragma once

#include <span>
#include <vector>

#include "gobbench/session.h"
#include "gobbench/simulate/patterns.h"

namespace gob::bench {

// What shares the cores with gobd while the parts are measured.
enum class Beside {
  kNothing,   // what a lone access meets: all that gobd needs is in the caches
  kPrograms,  // programs compute: before each part the caches are swept
};

// Raw TCP between two cores, a bare userfaultfd fault, kernel calls on frames, the protocol core,
// and a program's barrier with nobody else. Takes a second or two; `session` must be private.
[[nodiscard]] Result<Preset> calibrate(const Session& session, Beside beside);

// Nanoseconds of an element in the parts that `workers` workers compute of the problem, all at once
// on cores of their own and in memory of their own, mapped as frames are: page by page, from a file
// in memory. As many cores as workers are needed.
[[nodiscard]] Result<ElementCosts> measure_elements(const Problem& problem, unsigned workers);

// On a mapped memfd, with runs of one page and of a stripe; before each it sweeps over `swept`
// (cache_sweep.h).
[[nodiscard]] Result<FrameCosts> measure_frames(std::span<double> swept);

}  // namespace gob::bench
