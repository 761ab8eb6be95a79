#include "gobbench/jacobi.h"

#include <cstring>

namespace gob::bench {
namespace {
constexpr double kAlpha = 0.05;
constexpr double kRelaxation = 0.9;
}  // namespace

Jacobi::Jacobi(Matrix u, Matrix temporary, Distribution distribution, unsigned worker)
    : u_(u), temporary_(temporary), distribution_(distribution), worker_(worker) {
  const double step = 2.0 / static_cast<double>(u.size - 1);
  neighbours_x_ = 1.0 / (step * step);
  neighbours_y_ = 1.0 / (step * step);
  middle_ = -2.0 * (neighbours_x_ + neighbours_y_) - kAlpha;
  distribution_.for_each_line(worker_, 0, u.size, [&](std::size_t i) {
    const double y = -1.0 + step * static_cast<double>(i);
    for (std::size_t j = 0; j < u.size; ++j) {
      const double x = -1.0 + step * static_cast<double>(j);
      // Makes u = (1 - x^2)(1 - y^2) the solution.
      f_.push_back(-kAlpha * (1 - x * x) * (1 - y * y) - 2 * (1 - x * x) - 2 * (1 - y * y));
    }
  });
}

void Jacobi::prepare() {
  distribution_.for_each_line(worker_, 0, u_.size, [&](std::size_t i) {
    std::memset(u_.line(i), 0, u_.size * sizeof(double));
    std::memset(temporary_.line(i), 0, u_.size * sizeof(double));
  });
}

void Jacobi::iterate(unsigned iterations, const Barrier& barrier) {
  for (unsigned k = 0; k < iterations; ++k) {
    copy_lines();
    barrier();
    compute_lines();
    barrier();
  }
}

void Jacobi::copy_lines() const {
  distribution_.for_each_line(worker_, 0, u_.size, [&](std::size_t i) {
    std::memcpy(temporary_.line(i), u_.line(i), u_.size * sizeof(double));
  });
}

void Jacobi::compute_lines() const {
  const double* f = f_.data();
  distribution_.for_each_line(worker_, 0, u_.size, [&](std::size_t i) {
    const double* right_side = f;
    f += u_.size;
    if (i == 0 || i + 1 == u_.size) return;
    const double* above = temporary_.line(i - 1);
    const double* here = temporary_.line(i);
    const double* below = temporary_.line(i + 1);
    double* out = u_.line(i);
    for (std::size_t j = 1; j + 1 < u_.size; ++j) {
      const double residual =
          (neighbours_x_ * (here[j - 1] + here[j + 1]) + neighbours_y_ * (above[j] + below[j]) +
           middle_ * here[j] - right_side[j]) /
          middle_;
      out[j] = here[j] - kRelaxation * residual;
    }
  });
}

}  // namespace gob::bench
