#include "gobbench/matrix.h"

#include <bit>
#include <cstdint>
#include <cstring>

namespace gob::bench {

std::optional<Difference> first_difference(Matrix expected, Matrix found) {
  for (std::size_t i = 0; i < expected.size; ++i) {
    const double* a = expected.line(i);
    const double* b = found.line(i);
    if (std::memcmp(a, b, expected.size * sizeof(double)) == 0) continue;
    for (std::size_t j = 0; j < expected.size; ++j)
      if (std::bit_cast<std::uint64_t>(a[j]) != std::bit_cast<std::uint64_t>(b[j]))
        return Difference{i, j, a[j], b[j]};
  }
  return std::nullopt;
}

}  // namespace gob::bench
