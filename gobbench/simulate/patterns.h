// The access patterns of the parallel programs (jacobi.h, mgs.h) as steps of simulated programs:
// the same lines, by the same distribution, in the same order, between the same barriers.
#pragma once

#include <memory>
#include <vector>

#include "gobbench/algorithm.h"
#include "gobbench/simulate/program.h"

namespace gob::bench {

// Nanoseconds for an element of a line.
struct ElementCosts {
  double jacobi_copy = 0;
  double jacobi_compute = 0;
  double mgs_normalise = 0;
  double mgs_correct = 0;  // a vector by another: product and subtraction
};
// As the timing has it, for one of so many workers.
[[nodiscard]] ElementCosts element_costs(const Timing& timing, const Problem& problem,
                                         unsigned workers);

// Containers of the programs: the matrix, and the temporary one where there is one.
[[nodiscard]] std::vector<ContainerInfo> containers_of(const Problem& problem);

// One program a worker.
[[nodiscard]] std::vector<std::unique_ptr<Program>> programs_of(const Problem& problem,
                                                                unsigned workers,
                                                                const ElementCosts& costs);

// What one worker computes after its clock started, if it never waits.
[[nodiscard]] SimTime computing_ns(Program& program);

}  // namespace gob::bench
