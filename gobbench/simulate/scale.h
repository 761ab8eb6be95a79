// How the protocol scales, on simulated clusters of up to kMaxNodes nodes.
#pragma once

#include <vector>

#include "gobbench/outcome.h"
#include "gobbench/simulate/figure_sim.h"

namespace gob::bench {

struct ScaleOptions {
  SimulatedCluster cluster{"tcp-25g", {}};
  std::vector<unsigned> nodes = {4, 8, 16, 32, 64, 128, 256, 512, 1024};  // each at least 4
  std::uint64_t pages = std::uint64_t{1} << 18;  // independent pages of the whole cluster
  unsigned misses = 192;                         // of each node on independent pages, at most
  unsigned shared_pages = 16;                    // of the set that all nodes read
  unsigned few_readers = 8;                      // of the pages that few nodes read
};

// Independent pages: the data are spread over the nodes, each program misses on pages of other
// nodes that nobody else wants. Shared pages: every node reads the same few, then one writes them.
// Few readers: written pages that a fixed number of nodes had read. Barriers of all nodes. A view
// change without any change of members.
[[nodiscard]] Result<Outcome> simulate_scale(const ScaleOptions& options);

}  // namespace gob::bench
