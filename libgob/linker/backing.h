// Backing: where the pages of a container are that no node has in memory, on its home. All shards
// share it. Any thread.
#pragma once

#include <sys/uio.h>

#include <cstddef>

#include "libgob/base/ids.h"
#include "libgob/base/result.h"

namespace gob {

class Backing {
 public:
  virtual ~Backing() = default;
  // `count` pages from `first` into buffers of any cut, which it may change.
  virtual Status read(PageIndex first, unsigned count, iovec* parts, int part_count) const = 0;
  // Never waits for a disk.
  [[nodiscard]] virtual bool is_memory() const { return false; }
  // On failure some may be written.
  virtual Status write(PageIndex first, unsigned count, const std::byte* bytes) const = 0;
};

// Passes over `bytes` of the buffers, which were filled; the first one left may be cut.
void pass_over(std::size_t bytes, iovec*& parts, int& part_count);

}  // namespace gob
