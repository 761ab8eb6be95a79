// FileData: the bytes of file containers on this node, for whoever serves read(2) and write(2) (the
// FUSE mount). Pages come and go by the coherence protocol like those of any container; names,
// sizes, permissions and locks are the file service's business. Calls may come from any thread and
// never block; each `done` is called exactly once, on any thread, perhaps before the call returns: it
// must not block either.
//
// A file container is one whose record names a home: the node on whose file system its file is.
// Its size in pages is the largest that the file may have; what lies beyond the end of the file
// reads as zeros. Only the home reads and writes the file (paper §4.1.2, figure 5).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "libgob/base/ids.h"
#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"

namespace gob {

// Bytes [offset, offset + length) of a container; kToEnd: all that follow.
struct FileRange {
  static constexpr std::uint64_t kToEnd = ~std::uint64_t{0};
  std::uint64_t offset = 0;
  std::uint64_t length = kToEnd;
};

// Where the bytes of a read go, or of a write have been.
enum class Caching : std::uint8_t {
  kNone,    // to the program alone (direct I/O)
  kKernel,  // the kernel keeps the pages in its cache above the mount
};

// Whether a read tells what will be read next.
enum class ReadAhead : std::uint8_t {
  kByOrder,  // those who read in order go on
  kNone,     // whoever reads asks for all it wants in time
};

// The kernel's page cache above the mount, and how pages are taken out of it.
class KernelCache {
 public:
  virtual ~KernelCache() = default;
  // The kernel may hold these pages and has to forget them (fuse_lowlevel_notify_inval_inode).
  // Called on a shard's thread: must not block. `done`, on any thread, once it has.
  virtual void drop(ContainerId container, PageIndex first, std::uint64_t pages,
                    std::function<void()> done) = 0;
};

class FileData {
 public:
  // kLost, kTimedOut, kUnavailable: EIO; kNoSpace: ENOSPC. Error::errno_value says which to answer.
  using Done = std::function<void(Status)>;

  virtual ~FileData() = default;

  // Fills `out`, which lives until `done`. The caller clips to the end of the file.
  // kKernel: at the time of `done` the bytes are current, and the reply is to be given without
  // waiting for anything: from then on the pages are the kernel's until KernelCache::drop.
  virtual void read(ContainerId container, std::uint64_t offset, std::span<std::byte> out,
                    Caching caching, ReadAhead ahead, Done done) = 0;
  // A read for the kernel's cache is not answered yet, or not with what was read: the kernel has
  // none of these pages.
  virtual void not_given(ContainerId container, std::uint64_t offset, std::uint64_t length) = 0;
  // `bytes` live until `done`; then every node reads them. On failure some pages may be written.
  virtual void write(ContainerId container, std::uint64_t offset, std::span<const std::byte> bytes,
                     Caching caching, Done done) = 0;
  // --- at the home only: kInvalidArgument elsewhere ---
  // The open file behind the container (read and write), and how long it is now. Before the
  // container is first read; again after this node came back.
  virtual void bind(ContainerId container, UniqueFd file, std::uint64_t size_bytes, Done done) = 0;
  // The file has every byte that was written, on any node, before the call: pwrite is done, fsync
  // is the caller's. Also tells, once, of an earlier write in the background that failed.
  virtual void write_back(ContainerId container, FileRange range, Done done) = 0;
  // Forgets the pages that lie wholly inside the range on every node, written or not: the file
  // service makes the hole in the file. A page that is cut is the caller's to fill with zeros.
  virtual void discard(ContainerId container, FileRange range, Done done) = 0;
  // Called whenever some of a file was written back, on a shard's thread: its times have changed.
  virtual void on_written(std::function<void(ContainerId)> written) = 0;

  // Calls `change`, which may cut the file, before it returns; write-back stands still meanwhile,
  // so that none that is under way makes the file longer again. `change` gives the size that it has
  // then. The exception: this blocks, as long as the disk does.
  virtual void resize(ContainerId container, const std::function<std::uint64_t()>& change) = 0;

  // --- anywhere ---
  // How long the file is. At the home write-back never makes it longer than this: it is told before
  // what extends it is written; a cut goes by resize(). Elsewhere nothing is read ahead beyond.
  virtual void set_size(ContainerId container, std::uint64_t size_bytes) = 0;
  // The mount, once it is there; null when it goes.
  virtual void set_kernel_cache(KernelCache* cache) = 0;
};

}  // namespace gob
