// FileIoLinker: the I/O linker of file containers at their home (paper §4.1.2). Its device is the
// hosting file system: every page of a file is there, zeros beyond its end. One for each shard; the
// shard's thread makes all calls. Several threads wait for the disk, so that reads of different
// parts of a file overlap; what concerns one stripe is done in the order in which it was asked.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "libgob/linker/backing.h"
#include "libgob/linker/io_linker.h"
#include "libgob/linker/io_worker.h"

namespace gob {

class FileIoLinker final : public IoLinker {
 public:
  // `max_under_way`: beyond so many operations of a thread none is flushed by it.
  static Result<std::unique_ptr<FileIoLinker>> create(std::size_t max_under_way = 16384);
  ~FileIoLinker() override;

  // The file behind a container, from now on. Pages of containers without one are not found.
  void bind(ContainerId id, std::shared_ptr<const Backing> file);

  Status first_touch(PageSet pages) override;
  Status flush_page(PageSet pages, const std::byte* bytes) override;
  // The file keeps what it has: to cut it is the file service's business.
  void free_page(PageSet) override {}
  void invalidate_page(PageSet) override {}
  void free_container(ContainerId id) override { files_.erase(id); }
  [[nodiscard]] PageSet held(PageSet pages) const override;
  [[nodiscard]] std::uint64_t held_pages() const override { return 0; }  // it takes no swap
  [[nodiscard]] int fd() const override { return epoll_.get(); }
  void poll(std::vector<IoCompletion>& out) override;

 private:
  // For files; what never waits has one more, so that it does not wait for these.
  static constexpr std::size_t kLanes = 4;
  class Job;

  explicit FileIoLinker(UniqueFd epoll) : epoll_(std::move(epoll)) {}
  [[nodiscard]] IoWorker& lane_of(PageSet pages, const Backing& file);
  Status submit(PageSet pages, IoCompletion::Kind kind, const std::byte* bytes);

  UniqueFd epoll_;  // over the lanes
  std::map<ContainerId, std::shared_ptr<const Backing>> files_;
  std::vector<std::unique_ptr<IoJob>> delivered_;        // completions point into them
  std::array<std::unique_ptr<IoWorker>, kLanes + 1> lanes_;  // last: they end first
};

}  // namespace gob
