// What a program does to the caches of its core between two system calls: for measurements that
// are to hold while programs compute. Pure; async-signal-safe.
#pragma once

#include <span>

namespace gob {

// Reads and writes all of it.
inline void sweep_cache(std::span<double> memory) {
  for (double& value : memory) value = value * 0.5 + 1;
  asm volatile("" : : "r"(memory.data()) : "memory");
}

}  // namespace gob
