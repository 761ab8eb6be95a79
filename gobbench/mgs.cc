#include "gobbench/mgs.h"

#include <cmath>

#include "libgob/base/page_table.h"

namespace gob::bench {
namespace {

double dot(const double* a, const double* b, std::size_t n) {
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace

Mgs::Mgs(Matrix vectors, unsigned workers, unsigned worker)
    : vectors_(vectors),
      distribution_(Distribution::cyclic(vectors.size, workers)),
      worker_(worker) {}

void Mgs::prepare() {
  const std::size_t n = vectors_.size;
  distribution_.for_each_line(worker_, 0, n, [&](std::size_t i) {
    double* vector = vectors_.line(i);
    for (std::size_t j = 0; j < n; ++j)
      vector[j] = static_cast<double>(mix64(i * n + j + 1) >> 11) * 0x1p-53 - 0.5;
    vector[i] += std::sqrt(static_cast<double>(n));  // keeps the vectors independent
  });
}

void Mgs::step(std::size_t k, const Barrier& barrier) {
  const std::size_t n = vectors_.size;
  double* basis = vectors_.line(k);
  if (distribution_.owner(k) == worker_) {
    const double norm = std::sqrt(dot(basis, basis, n));
    for (std::size_t j = 0; j < n; ++j) basis[j] /= norm;
  }
  // The only meeting in a round: the owner of vector k + 1 has corrected that vector itself.
  barrier();
  distribution_.for_each_line(worker_, k + 1, n, [&](std::size_t i) {
    double* vector = vectors_.line(i);
    const double along = dot(vector, basis, n);
    for (std::size_t j = 0; j < n; ++j) vector[j] -= along * basis[j];
  });
}

void Mgs::orthonormalise(const Barrier& barrier) {
  for (std::size_t k = 0; k < vectors_.size; ++k) step(k, barrier);
  barrier();
}

}  // namespace gob::bench
