// The mappings of one connection. Its mutex is never held while a request waits or while memory of
// a mapping is touched, so the guardian always gets it. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"

namespace gob::client {

struct MappingRequest {
  std::uint64_t id = 0;  // gobd's
  std::uint32_t container_id = 0;
  std::string container;
  int memfd = -1;
  int uffd_device = -1;  // /dev/userfaultfd, if gobd sent it
  std::uint64_t offset = 0;
  std::size_t bytes = 0;  // whole pages
  bool writable = false;
  void* where = nullptr;                 // take this place; null: any free one
  std::shared_ptr<const UniqueFd> file;  // stays open as long as the mapping
};

class MappingTable {
 public:
  // Makes what poison() will need while there still is room for it.
  // `name`: how /proc shows it.
  static Result<UniqueFd> make_empty_file(const std::string& name);
  explicit MappingTable(UniqueFd empty_file) : empty_file_(std::move(empty_file)) {}
  ~MappingTable() { unmap_all(); }
  MappingTable(const MappingTable&) = delete;
  MappingTable& operator=(const MappingTable&) = delete;

  struct Mapped {
    void* address = nullptr;
    int uffd = -1;  // for gobd; belongs to the table
  };
  // Maps, and registers with a new userfaultfd, whose copy here outlives gobd. All of it under the
  // mutex, so that a fork in another thread never sees it half done. ENOTCONN after poison().
  Result<Mapped> map(const MappingRequest& request);
  // Returns gobd's id of the mapping at `address`; kInvalidArgument if there is none.
  Result<std::uint64_t> unmap(void* address);
  void unmap_all();

  // gobd is gone: every access to every mapping raises SIGBUS from now on, and threads that wait
  // for a page wake up to it. Returns the containers concerned, each once.
  std::vector<std::string> poison();

  // The process moves, and its other threads stand still. All with the lock held.
  struct Place {
    void* address = nullptr;
    std::string container;
    std::uint32_t container_id = 0;
    std::uint64_t offset = 0;
    std::size_t bytes = 0;
    bool writable = false;
    int uffd = -1;  // belongs to the table
    std::shared_ptr<const UniqueFd> file;
  };
  [[nodiscard]] std::vector<Place> places() const;
  // Nothing of any container is mapped any more: the places are kept free, without access.
  Status leave();
  // What lies at request.where is mapped again; the table's other facts of it stay. Returns the
  // userfaultfd.
  Result<int> join(const MappingRequest& request);
  // The container is gone: accesses raise SIGBUS.
  Status lose(void* address);

  // Around fork(): lock() before, unlock() in the parent; close_in_child() instead in the child.
  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }
  void close_in_child();

 private:
  struct Mapping {
    std::uint64_t id = 0;
    std::string container;
    std::uint32_t container_id = 0;
    std::uint64_t offset = 0;
    std::size_t bytes = 0;
    int protection = 0;
    UniqueFd uffd;  // open as long as faults have to wait
    std::shared_ptr<const UniqueFd> file;
  };

  UniqueFd empty_file_;  // what poisoned mappings show: nothing, hence SIGBUS
  std::mutex mutex_;
  // Protected by mutex_:
  std::map<void*, Mapping> mappings_;
  bool poisoned_ = false;
};

}  // namespace gob::client
