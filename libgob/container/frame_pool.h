// FramePool: the page frames of one container on this node, as the pages of one memfd (page i of
// the container is page i of the file). Local programs map the same memfd, so a frame exists once a
// node. The pool keeps no mapping of its own: bytes move by pread, pwrite and splice.
//
// Threads: several shards may use one pool at the same time as long as no two of them touch the
// same stripe at once; the pool itself holds no state but the descriptor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "libgob/base/ids.h"
#include "libgob/base/page_set.h"
#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/container/page_pipe.h"

namespace gob {

// Runs are given as (first page, count); a run lies inside the pool. Buffers hold count * kPageSize
// bytes. An Error leaves the frames as they were unless said otherwise.
class FramePool {
 public:
  // An empty pool: costs nothing for a page without a frame. `name` shows in /proc/PID/maps.
  // Sealed, so that no program that gets the descriptor can shrink, grow or freeze it.
  static Result<FramePool> create(const std::string& name, std::uint64_t pages);

  // Passed to programs, which map it.
  [[nodiscard]] int fd() const { return memfd_.get(); }
  [[nodiscard]] std::uint64_t pages() const { return pages_; }
  [[nodiscard]] bool contains(PageIndex first, std::uint64_t count) const {
    return first.value() <= pages_ && count <= pages_ - first.value();
  }

  // Makes frames with these bytes, or overwrites frames that exist. kNoSpace when the host has no
  // memory left; some of the run may be stored then.
  Status store(PageIndex first, unsigned count, const std::byte* bytes) const;
  // The same with zeros; count <= kStripePages.
  Status store_zero(PageIndex first, unsigned count) const;
  // Copies bytes out; pages without a frame read as zeros.
  Status load(PageIndex first, unsigned count, std::byte* out) const;
  // Bytes [offset, offset + size) of frames that exist; any cut.
  Status read_bytes(std::uint64_t offset, std::span<std::byte> out) const;
  Status write_bytes(std::uint64_t offset, std::span<const std::byte> bytes) const;
  // The move: the frames leave every mapping and the pool, and their bytes land in `out`, whatever
  // programs write meanwhile: the pages are held by reference while they are unmapped, and read
  // only afterwards, when nobody can write any more. kLost if the bytes were gone by then;
  // any other error leaves the frames not yet moved in place, and earlier ones of the run in `out`.
  Status take(PageIndex first, unsigned count, std::byte* out, PagePipe& pipe) const;
  // Removes the frames from every mapping, and frees them.
  Status punch(PageIndex first, unsigned count) const;
  // The same for all frames.
  Status clear() const;
  // Takes the frames out of every mapping but keeps them: what is left to do when a mapping cannot
  // be write-protected. kLost as for take.
  Status unmap(PageIndex first, unsigned count, PagePipe& pipe) const;

  // Whether the page has a frame.
  [[nodiscard]] bool resident(PageIndex page) const;
  // Frames of the whole pool.
  [[nodiscard]] Result<std::uint64_t> resident_count() const;

 private:
  FramePool(UniqueFd memfd, std::uint64_t pages) : memfd_(std::move(memfd)), pages_(pages) {}
  [[nodiscard]] Error failed(const char* what, PageIndex first, unsigned count) const;

  UniqueFd memfd_;
  std::uint64_t pages_;
};

}  // namespace gob
