// The parallel programs of figures 9 and 10 behind one face, for the sequential run and the workers
// alike. Values; memory is the caller's.
#pragma once

#include <string>

#include "gobbench/matrix.h"
#include "libgob/base/result.h"

namespace gob::bench {

enum class Algorithm { kJacobi, kMgs };

struct Problem {
  Algorithm algorithm = Algorithm::kJacobi;
  std::size_t size = 0;     // elements of a line
  std::size_t stride = 0;   // doubles from line to line
  unsigned iterations = 0;  // Jacobi
  std::size_t block = 1;    // Jacobi: lines of a block of the block-cyclic distribution

  [[nodiscard]] std::size_t bytes() const { return Matrix::bytes_of(size, stride); }
  // Whether it uses a temporary matrix.
  [[nodiscard]] bool has_temporary() const { return algorithm == Algorithm::kJacobi; }
};

// When a run began and ended on the clock that all processes of a machine share, in nanoseconds.
struct Span {
  std::int64_t begin_ns = 0;
  std::int64_t end_ns = 0;
};

// Does the part of `worker` of `workers`: prepares its lines, meets the others, computes. The time
// is that of the computation. `temporary` may be empty where has_temporary() is false.
Span solve(const Problem& problem, Matrix matrix, Matrix temporary, unsigned workers,
           unsigned worker, const Barrier& barrier);

// One processor on ordinary memory of its own: writes the result to `result` and returns the
// seconds it took.
double solve_sequentially(const Problem& problem, Matrix result);

}  // namespace gob::bench
