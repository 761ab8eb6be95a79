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

// The block of Jacobi's lines unless told otherwise: at most 256 lines, so that large matrices are
// dealt out block-cyclically, at most a worker's share, and whole pages, so that no page has two
// writers.
[[nodiscard]] std::size_t block_lines(std::size_t size, std::size_t stride, unsigned workers);

// Runs every size on every number of nodes, each checked element by element on every node. Fails on
// a wrong element.
[[nodiscard]] Result<Outcome> run_figure(const Session& session, const FigureOptions& options);

}  // namespace gob::bench
