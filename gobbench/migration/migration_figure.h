// Figures 13 and 14 of the paper: how long a process stands still when it moves, and how much longer
// its work takes, by the size of its memory and the way of moving.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "gobbench/outcome.h"
#include "gobbench/session.h"

namespace gob::bench {

// $GOB_CRIU, else "criu".
[[nodiscard]] std::string default_criu();

struct MigrationFigureOptions {
  bool overhead = false;           // figure 14; else figure 13
  std::vector<std::size_t> lines;  // of the matrices
  unsigned runs = 3;               // the median counts
  double seconds = 2;              // figure 14: of work that is not moved
  std::string criu = default_criu();
};

// Lines of the matrix that fills so many bytes, the last of them not quite.
[[nodiscard]] std::size_t lines_of(std::uint64_t bytes);

// 64 lines to 1 GiB.
[[nodiscard]] std::vector<std::size_t> default_lines(bool overhead);

// On private nodes in network namespaces; needs root. Fails on a wrong result of the program.
[[nodiscard]] Result<Outcome> run_migration_figure(const Session& session,
                                                   const MigrationFigureOptions& options);

}  // namespace gob::bench
