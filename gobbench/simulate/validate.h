// Whether the model of time is right: the same runs on real nodes and simulated, side by side.
#pragma once

#include <vector>

#include "gobbench/outcome.h"
#include "gobbench/session.h"

namespace gob::bench {

struct ValidateOptions {
  std::vector<std::size_t> sizes = {256, 512, 1024};
  unsigned iterations = 100;  // Jacobi
  unsigned runs = 3;          // of each parallel program; the median counts
  unsigned samples = 800;     // faults of each kind
};

// Two private nodes with a core each. Measures the parts (calibrate.h), simulates faults, barriers,
// Jacobi and MGS with them, runs the same for real, and gives the error of each.
[[nodiscard]] Result<Outcome> simulate_validate(const Session& session,
                                                const ValidateOptions& options);

}  // namespace gob::bench
