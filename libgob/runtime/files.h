// Files: FileData on one node. Cuts requests into stripes for the shards, and asks ahead for
// readers that go through a file in order. Pages of other containers go the same way for programs
// that have no mapping of them. Any thread.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "libgob/linker/backing_file.h"
#include "libgob/linker/file_data.h"
#include "libgob/linker/process_memory.h"
#include "libgob/protocol/event.h"

namespace gob {

class Shard;

class Files final : public FileData {
 public:
  // The shards outlive it. `read_ahead_pages` 0: nothing is asked for ahead.
  Files(NodeId self, std::vector<Shard*> shards, unsigned read_ahead_pages)
      : self_(self), shards_(std::move(shards)), read_ahead_pages_(read_ahead_pages) {}

  // The control thread: which containers there are. Before the shards hear of one that comes.
  void add_container(const ContainerInfo& info);
  void remove_container(ContainerId id);

  void read(ContainerId container, std::uint64_t offset, std::span<std::byte> out, Caching caching,
            ReadAhead ahead, Done done) override;
  void not_given(ContainerId container, std::uint64_t offset, std::uint64_t length) override;
  void write(ContainerId container, std::uint64_t offset, std::span<const std::byte> bytes,
             Caching caching, Done done) override;
  void discard(ContainerId container, FileRange range, Done done) override;
  void bind(ContainerId container, UniqueFd file, std::uint64_t size_bytes, Done done) override;
  void resize(ContainerId container, const std::function<std::uint64_t()>& change) override;
  void set_size(ContainerId container, std::uint64_t size_bytes) override;
  void write_back(ContainerId container, FileRange range, Done done) override;
  void set_kernel_cache(KernelCache* cache) override;

  // Of a memory container: makes this node the only one with these pages, and copies them to `out`,
  // or `bytes` to them; these live until `done`. Whole pages. `ahead`: so many behind them will be
  // wanted next. The caller sees to it that there are few under way.
  void take(ContainerId container, std::uint64_t offset, std::span<std::byte> out,
            std::uint64_t ahead, Done done);
  void put(ContainerId container, std::uint64_t offset, std::span<const std::byte> bytes,
           Done done);

  // Copies of whole pages of a container of any kind to `out`, which lives until `done`. As take().
  void copy(ContainerId container, std::uint64_t offset, std::span<std::byte> out, Done done);
  // What bind() is for a file, of processes. At the home.
  void bind_processes(ContainerId container, ProcessMemory processes, Done done);

  void on_written(std::function<void(ContainerId)> written) override;

 private:
  // A reader that goes on where it stopped. Pages.
  struct Stream {
    std::uint64_t next = 0;    // where it would go on
    std::uint64_t asked = 0;   // up to here it was asked for ahead
    std::uint64_t window = 0;  // of the last time; 0: not in order yet
    std::uint64_t used = 0;    // when; 0: free
  };
  struct Entry {
    ContainerInfo info;
    std::shared_ptr<BackingFile> backing;  // at the home, once it is bound
    std::uint64_t size_bytes = ~std::uint64_t{0};
    std::array<Stream, 4> streams;
    std::uint64_t reads = 0;
  };
  struct Pages {
    std::uint64_t first = 0;
    std::uint64_t end = 0;
  };

  [[nodiscard]] Result<ContainerInfo> find(ContainerId id) const;
  // What to ask for with a read of these pages.
  Pages look_ahead(ContainerId id, Pages read);
  void start(const std::shared_ptr<struct FileAccess>& access, Pages ahead);
  void refuse_share(const std::shared_ptr<struct FileAccess>& access, std::size_t parts);
  void bind_backing(ContainerId container, const std::shared_ptr<const Backing>& backing,
                    Done done);
  void start_jobs(ContainerId id, bool discard, Pages pages, Done done);
  [[nodiscard]] Shard& shard_of(std::uint64_t stripe) const;

  const NodeId self_;
  const std::vector<Shard*> shards_;
  const unsigned read_ahead_pages_;
  mutable std::mutex mutex_;
  std::map<ContainerId, Entry> entries_;  // guarded by mutex_
};

}  // namespace gob
