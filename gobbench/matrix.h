// Matrix: a square of doubles in memory that somebody else owns: a program's own, or a container's
// mapping. Value; as safe for threads as the memory.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>

#include "libgob/base/ids.h"

namespace gob::bench {

struct Matrix {
  double* data = nullptr;
  std::size_t size = 0;    // lines, and elements of a line
  std::size_t stride = 0;  // doubles from one line to the next

  [[nodiscard]] double* line(std::size_t i) const { return data + i * stride; }

  // Lines one after the other, or each line beginning on a page of its own.
  static std::size_t stride_of(std::size_t size, bool padded) {
    constexpr std::size_t kPageDoubles = kPageSize / sizeof(double);
    return padded ? (size + kPageDoubles - 1) / kPageDoubles * kPageDoubles : size;
  }
  static std::size_t bytes_of(std::size_t size, std::size_t stride) {
    return size * stride * sizeof(double);
  }
};

// All workers meet; returns once all are there.
using Barrier = std::function<void()>;

struct Difference {
  std::size_t line = 0;
  std::size_t column = 0;
  double expected = 0;
  double found = 0;
};

// The first element, in order of lines, whose bits are not those of `expected`: workers do the same
// operations in the same order as one processor does, so not even the last bit may differ.
[[nodiscard]] std::optional<Difference> first_difference(Matrix expected, Matrix found);

}  // namespace gob::bench
