// What figures 9 and 10 are made of, wherever a speed-up comes from: rows of measurements, of
// simulations, and the paper's own readings, in one table and one plot that say which is which.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "gobbench/algorithm.h"
#include "gobbench/outcome.h"

namespace gob::bench {

inline constexpr const char* kMeasured = "measured";
inline constexpr const char* kPaper = "paper";

struct FigureRow {
  std::string source;    // kMeasured, kPaper, or "simulated PRESET"
  std::size_t size = 0;  // lines of the matrix
  unsigned nodes = 0;
  std::optional<double> sequential_ms;
  std::optional<double> parallel_ms;
  double speed_up = 0;
};

// Everything but notes and parameters. Adds the paper's readings. When it is written, rows of other
// sources that are in the figure's folder already stay there, and are drawn with these.
[[nodiscard]] Outcome figure_outcome(Algorithm algorithm, const std::string& source,
                                     const std::vector<FigureRow>& rows);

// What the paper's text says of the figure (§6.1.2), for the notes.
[[nodiscard]] std::string paper_reading(Algorithm algorithm);

// The block of Jacobi's lines unless told otherwise: about 256 lines at most, so that large
// matrices are dealt out block-cyclically; as many blocks for each worker, so that none has more to
// do than the others; and whole pages, so that no page has two writers.
[[nodiscard]] std::size_t block_lines(std::size_t size, std::size_t stride, unsigned workers);

}  // namespace gob::bench
