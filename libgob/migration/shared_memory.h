// Reading and writing small things in containers with an error, where a plain access to a page that
// cannot be had any more would end the program with SIGBUS. Thread-safe as memory itself is.
#pragma once

#include <cstddef>

#include "libgob/base/result.h"

namespace gob::migration {

// kUnavailable: the container was removed, the page is lost, or this node's gobd is gone.
Status load(void* to, const void* container, std::size_t bytes);
Status store(void* container, const void* from, std::size_t bytes);

template <class T>
Result<T> load(const T* container) {
  T value{};
  if (Status status = load(&value, container, sizeof value); !status) return status.error();
  return value;
}
template <class T>
Status store(T* container, T value) {
  return store(container, &value, sizeof value);
}

}  // namespace gob::migration
