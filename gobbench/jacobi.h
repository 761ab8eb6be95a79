// Jacobi iteration for the Helmholtz equation  u_xx + u_yy - alpha u = f  on [-1, 1]^2 with u = 0
// on the boundary (paper §6.1.1, figure 9). Every worker calls the same functions with its number;
// one worker on plain memory is the sequential program.
#pragma once

#include <vector>

#include "gobbench/distribution.h"
#include "gobbench/matrix.h"

namespace gob::bench {

class Jacobi {
 public:
  // `u` and `temporary` are shared by all workers, of equal size and stride; size >= 3. Lines are
  // those of `distribution`.
  Jacobi(Matrix u, Matrix temporary, Distribution distribution, unsigned worker);

  // Sets this worker's lines of both matrices: the start of the iteration is u = 0.
  void prepare();
  // Copies the matrix to the temporary one, then computes each element from the temporary's element
  // and its four neighbours; `iterations` times, between barriers.
  void iterate(unsigned iterations, const Barrier& barrier);

 private:
  void copy_lines() const;
  void compute_lines() const;

  Matrix u_;
  Matrix temporary_;
  Distribution distribution_;
  unsigned worker_;
  double
      neighbours_x_;  // weight of the elements left and right, above and below, and in the middle
  double neighbours_y_;
  double middle_;
  std::vector<double> f_;  // right side for this worker's lines, in their order
};

}  // namespace gob::bench
