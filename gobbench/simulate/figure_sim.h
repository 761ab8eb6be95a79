// Figures 9 and 10 on a simulated cluster, and what their numbers hang on.
#pragma once

#include <string>
#include <vector>

#include "gobbench/algorithm.h"
#include "gobbench/outcome.h"
#include "gobbench/simulate/patterns.h"
#include "gobbench/simulate/sim_cluster.h"

namespace gob::bench {

// Which cluster: a preset, and what is different.
struct SimulatedCluster {
  std::string preset = "gige-2002";
  std::vector<std::string> changes;  // "name=value"

  // Fails with kInvalidArgument on an unknown name or a wrong value.
  [[nodiscard]] Result<Preset> resolve() const;
  // Preset and changes, as results call them.
  [[nodiscard]] std::string name() const;
};
// The parameters and their sources, for run.json.
[[nodiscard]] Json describe(const Preset& preset);

struct SimulatedFigureOptions {
  SimulatedCluster cluster;
  Algorithm algorithm = Algorithm::kJacobi;
  std::vector<std::size_t> sizes = {64, 128, 256, 512, 1024, 2048};
  std::vector<unsigned> nodes = {1, 2, 3, 4, 5, 6};
  unsigned iterations = 100;  // Jacobi
  bool padded = false;
};

// What one parallel run does.
struct SimulatedRun {
  SimTime parallel_ns = 0;
  std::uint64_t faults = 0;
  std::uint64_t messages = 0;
  std::uint64_t pages = 0;  // that came with their bytes
};
// `problem` with the block that figure 9 would take (figure_results.h).
[[nodiscard]] Problem problem_of(Algorithm algorithm, std::size_t size, unsigned workers,
                                 unsigned iterations, bool padded);
[[nodiscard]] Result<SimulatedRun> simulate_run(const Timing& timing, const Problem& problem,
                                                unsigned workers, const ElementCosts& costs);
// One worker that never waits: the sequential program.
[[nodiscard]] SimTime simulate_sequential(const Timing& timing, const Problem& problem);

[[nodiscard]] Result<Outcome> simulate_figure(const SimulatedFigureOptions& options);

struct SensitivityOptions {
  SimulatedCluster cluster;
  Algorithm algorithm = Algorithm::kMgs;
  std::size_t size = 2048;
  unsigned nodes = 6;
  unsigned iterations = 100;
};
// The speed-up with each parameter halved and doubled.
[[nodiscard]] Result<Outcome> simulate_sensitivity(const SensitivityOptions& options);

// A table of all presets with all their parameters and sources.
[[nodiscard]] Outcome list_presets();

}  // namespace gob::bench
