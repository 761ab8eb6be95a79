// SwapFile: a file without a name, of page-sized slots, that vanishes with the daemon. It bypasses
// the page cache where the file system lets it, since its very purpose is to free memory. Used by
// one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/linker/slot_allocator.h"

namespace gob {

class SwapFile {
 public:
  static Result<SwapFile> create(const std::string& directory);

  // Buffers hold slots.size() pages in the order of `slots`, and are aligned to the page size.
  // write() reserves room on the device first, an extent at a time: kNoSpace if there is none.
  Status write(const std::vector<SlotAllocator::Slot>& slots, const std::byte* bytes);
  Status read(const std::vector<SlotAllocator::Slot>& slots, std::byte* bytes);

 private:
  SwapFile(UniqueFd file, std::string directory)
      : file_(std::move(file)), directory_(std::move(directory)) {}
  Status reserve(SlotAllocator::Slot last);
  template <class F>
  Status transfer(const std::vector<SlotAllocator::Slot>& slots, const char* verb, F&& call);

  UniqueFd file_;
  std::string directory_;
  std::uint64_t reserved_bytes_ = 0;
};

}  // namespace gob
