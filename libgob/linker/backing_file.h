// BackingFile: the open file behind a file container, on its home. All shards share it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>

#include "libgob/base/ids.h"
#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/linker/backing.h"

namespace gob {

class BackingFile final : public Backing {
 public:
  // `file` is open for reading and writing; `size_bytes` is where write-back stops. `before`: the
  // same file, whose place this takes: what is still written by that one stops there, too.
  BackingFile(UniqueFd file, std::uint64_t size_bytes, const BackingFile* before = nullptr);

  void set_size(std::uint64_t size_bytes) { end_->size.store(size_bytes); }
  // Calls `change`, which may cut the file, while nothing is written to it. What it gives is the
  // size from then on, and from this.
  std::uint64_t resize(const std::function<std::uint64_t()>& change);
  [[nodiscard]] std::uint64_t size() const { return end_->size.load(); }

  // What lies beyond the end of the file is zeros.
  Status read(PageIndex first, unsigned count, iovec* parts, int part_count) const override;
  // Writes the part of the run that lies inside size().
  Status write(PageIndex first, unsigned count, const std::byte* bytes) const override;

 private:
  struct End {
    std::mutex writing;  // held from the look at the size until the bytes are in the file
    std::atomic<std::uint64_t> size;
  };

  UniqueFd file_;
  std::shared_ptr<End> end_;
};

}  // namespace gob
