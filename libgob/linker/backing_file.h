// BackingFile: the open file behind a file container, on its home. All shards share it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "libgob/base/ids.h"
#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/linker/backing.h"

namespace gob {

class BackingFile final : public Backing {
 public:
  // `file` is open for reading and writing; `size_bytes` is where write-back stops.
  BackingFile(UniqueFd file, std::uint64_t size_bytes)
      : file_(std::move(file)), size_(size_bytes) {}

  void set_size(std::uint64_t size_bytes) { size_.store(size_bytes); }
  [[nodiscard]] std::uint64_t size() const { return size_.load(); }

  // What lies beyond the end of the file is zeros.
  Status read(PageIndex first, unsigned count, iovec* parts, int part_count) const override;
  // Writes the part of the run that lies inside size().
  Status write(PageIndex first, unsigned count, const std::byte* bytes) const override;

 private:
  UniqueFd file_;
  std::atomic<std::uint64_t> size_;
};

}  // namespace gob
