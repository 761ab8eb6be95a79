#include "gobbench/algorithm.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "gobbench/jacobi.h"
#include "gobbench/mgs.h"

namespace gob::bench {
namespace {

std::int64_t now_ns() {
  return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

Span solve(const Problem& problem, Matrix matrix, Matrix temporary, unsigned workers,
           unsigned worker, const Barrier& barrier) {
  Span span;
  switch (problem.algorithm) {
    case Algorithm::kJacobi: {
      Jacobi jacobi(matrix, temporary, Distribution(matrix.size, workers, problem.block), worker);
      jacobi.prepare();
      barrier();
      span.begin_ns = now_ns();
      jacobi.iterate(problem.iterations, barrier);
      break;
    }
    case Algorithm::kMgs: {
      Mgs mgs(matrix, workers, worker);
      mgs.prepare();
      barrier();
      span.begin_ns = now_ns();
      mgs.orthonormalise(barrier);
      break;
    }
  }
  span.end_ns = now_ns();
  return span;
}

double solve_sequentially(const Problem& problem, Matrix result) {
  std::vector<double> own(problem.size * problem.stride);
  std::vector<double> temporary(problem.has_temporary() ? own.size() : 0);
  const Matrix matrix{own.data(), problem.size, problem.stride};
  const Span span =
      solve(problem, matrix, {temporary.data(), problem.size, problem.stride}, 1, 0, [] {});
  for (std::size_t i = 0; i < problem.size; ++i)
    std::copy_n(matrix.line(i), problem.size, result.line(i));
  return static_cast<double>(span.end_ns - span.begin_ns) * 1e-9;
}

}  // namespace gob::bench
