// The suite's table: one row an experiment, and what must hold.
#pragma once

#include <cstdint>
#include <vector>

#include "gobbench/outcome.h"
#include "tests/litmus/experiment.h"

namespace gob::litmus {

struct Finished {
  Setup setup;
  Tally tally;
};

// `runs`: how many each experiment was to have.
[[nodiscard]] bench::Outcome report(const std::vector<Finished>& all, std::uint64_t runs,
                                    std::uint64_t seed);

}  // namespace gob::litmus
