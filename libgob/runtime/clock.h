// The clock of everything that measures or times out. Any thread.
#pragma once

#include <cstdint>
#include <ctime>

namespace gob {

// Nanoseconds since some fixed moment; never goes back.
inline std::uint64_t monotonic_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace gob
