// Figures 9 and 10 of the paper: speed-up of parallel programs in shared memory, by matrix size and
// number of nodes.
#pragma once

#include <vector>

#include "gobbench/algorithm.h"
#include "gobbench/outcome.h"
#include "gobbench/session.h"

namespace gob::bench {

struct FigureOptions {
  Algorithm algorithm = Algorithm::kJacobi;
  std::vector<std::size_t> sizes;
  std::vector<unsigned> nodes;
  unsigned iterations = 100;  // Jacobi
  std::size_t block = 0;      // Jacobi: lines of a block; 0: block_lines()
  unsigned runs = 3;          // the median counts
  bool padded = false;        // each line begins on a page of its own
};

// Runs every size on every number of nodes, each checked element by element on every node. Fails on
// a wrong element.
[[nodiscard]] Result<Outcome> run_figure(const Session& session, const FigureOptions& options);

}  // namespace gob::bench
