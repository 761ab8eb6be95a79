// Modified Gram-Schmidt: makes an orthonormal basis from independent vectors, the lines of a matrix
// (paper §6.1.1, figure 10). Every worker calls the same functions with its number; one worker on
// plain memory is the sequential program.
#pragma once

#include "gobbench/distribution.h"
#include "gobbench/matrix.h"

namespace gob::bench {

class Mgs {
 public:
  // `vectors` is shared by all workers; vector k belongs to worker k modulo their number.
  Mgs(Matrix vectors, unsigned workers, unsigned worker);

  // Sets this worker's vectors, always the same and far from dependent.
  void prepare();
  // For each k: its owner normalises vector k; then all correct their own remaining vectors by it.
  void orthonormalise(const Barrier& barrier);
  // One such k.
  void step(std::size_t k, const Barrier& barrier);

 private:
  Matrix vectors_;
  Distribution distribution_;
  unsigned worker_;
};

}  // namespace gob::bench
