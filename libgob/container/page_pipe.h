// PagePipe: holds pages taken out of a memfd, by reference, on their way to a buffer. The kernel's
// pipe is the only place where a page can wait after it has left every mapping and its file.
// Owned by one thread (one for each shard).
#pragma once

#include <cstddef>
#include <cstdint>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"

namespace gob {

class PagePipe {
 public:
  // Room for a stripe if the system's limits on pipes allow it (fs.pipe-max-size,
  // fs.pipe-user-pages-soft), else for less: callers work in chunks of capacity_pages().
  static Result<PagePipe> create();

  // Takes references to the `count` pages of `memfd` at `offset_bytes`. Returns how many it took
  // (at least one). The pipe must be empty.
  Result<unsigned> fill(int memfd, std::uint64_t offset_bytes, unsigned count);
  // Copies the bytes of the next `count` pages out of the pipe and drops the references.
  Status drain(unsigned count, std::byte* out);
  // Drops whatever the pipe holds, after an error.
  void discard();

  [[nodiscard]] unsigned capacity_pages() const { return capacity_pages_; }

 private:
  PagePipe(UniqueFd read_end, UniqueFd write_end, unsigned capacity_pages)
      : read_end_(std::move(read_end)),
        write_end_(std::move(write_end)),
        capacity_pages_(capacity_pages) {}

  UniqueFd read_end_;
  UniqueFd write_end_;
  unsigned capacity_pages_;
};

}  // namespace gob
