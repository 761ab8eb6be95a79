// FramePool: the page frames of one container on this node, as the pages of one memfd (page i of
// the container is page i of the file). Local programs map the same memfd, so a frame exists once a
// node. The pool keeps no mapping of its own: bytes move by pread, pwrite and splice.
//
// Threads: several shards may use one pool at the same time as long as no two of them touch the
// same stripe at once; the pool itself holds no state but the descriptor, made by
// whichever thread wants it first.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>

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
  // An empty pool: costs nothing for a page without a frame, and no descriptor before the first.
  // `name` shows in /proc/PID/maps.
  static Result<FramePool> create(const std::string& name, std::uint64_t pages);

  // Passed to programs, which map it. Sealed, so that none of them can shrink, grow or freeze it.
  // Made when it is first wanted, by this or by what needs a frame: kNoSpace when this process has
  // no descriptor left. Once it has succeeded it always does.
  Result<int> fd() const;
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
  struct Memory {
    explicit Memory(std::string shown) : name(std::move(shown)) {}

    const std::string name;
    std::mutex mutex;
    UniqueFd memfd;            // guarded by mutex
    std::atomic<int> fd = -1;  // the same, once it is ready
  };
  FramePool(const std::string& name, std::uint64_t pages)
      : memory_(std::make_unique<Memory>(name)), pages_(pages) {}
  [[nodiscard]] bool is_made() const { return memory_->fd.load(std::memory_order_acquire) >= 0; }
  [[nodiscard]] Error failed(const char* what, PageIndex first, unsigned count) const;

  std::unique_ptr<Memory> memory_;
  std::uint64_t pages_;
};

}  // namespace gob
