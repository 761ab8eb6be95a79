// MemoryIoLinker: the I/O linker of memory containers. Its device is a swap file of this node, into
// which pages go when they fit nowhere in the cluster's memory. One for each shard; the shard's
// thread makes all calls, the disk is waited for by a thread of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "libgob/base/page_table.h"
#include "libgob/linker/io_linker.h"
#include "libgob/linker/io_worker.h"
#include "libgob/linker/slot_allocator.h"
#include "libgob/linker/swap_file.h"

namespace gob {

class MemoryIoLinker final : public IoLinker {
 public:
  struct Config {
    std::string directory;                             // where the swap file is
    std::uint64_t max_bytes = std::uint64_t{4} << 30;  // it never grows beyond
    std::size_t max_under_way = 128;                   // beyond so many operations none is flushed
  };
  static Result<std::unique_ptr<MemoryIoLinker>> create(const Config& config);
  ~MemoryIoLinker() override;

  Status first_touch(PageSet pages) override;
  Status flush_page(PageSet pages, const std::byte* bytes) override;
  void free_page(PageSet pages) override;
  void invalidate_page(PageSet pages) override { free_page(pages); }
  void free_container(ContainerId id) override;
  [[nodiscard]] PageSet held(PageSet pages) const override;
  [[nodiscard]] std::uint64_t held_pages() const override { return kept_.size(); }
  [[nodiscard]] int fd() const override { return worker_->fd(); }
  void poll(std::vector<IoCompletion>& out) override;

 private:
  struct Kept {
    SlotAllocator::Slot slot = 0;
    std::uint32_t checksum = 0;
  };
  class Job;

  MemoryIoLinker(SwapFile file, std::uint64_t max_slots, std::unique_ptr<IoWorker> worker)
      : file_(std::move(file)), slots_(max_slots), worker_(std::move(worker)) {}
  void submit(std::unique_ptr<Job> job);
  void end_flush(const Job& job);
  void forget(PageKey key);

  SwapFile file_;  // the worker's thread, once a job is submitted
  SlotAllocator slots_;
  PageTable<Kept> kept_;
  // Flushes under way: their pages that were freed meanwhile are not to be kept.
  std::unordered_map<const Job*, std::uint64_t> flushing_;
  std::vector<std::unique_ptr<IoJob>> delivered_;  // completions point into them
  std::unique_ptr<IoWorker> worker_;  // last: its thread ends before the file is closed
};

}  // namespace gob
