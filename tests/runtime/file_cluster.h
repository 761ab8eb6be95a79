// A cluster of real shards, I/O linkers and Files in one process, over the in-memory transport:
// FileData without mounts, names or membership, whose views the test makes. Test support.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "libgob/runtime/files.h"
#include "libgob/runtime/shard.h"
#include "libgob/transport/memory_transport.h"

namespace gob::test {

class FileCluster {
 public:
  struct Options {
    unsigned nodes = 3;
    unsigned shards = 1;
    std::uint64_t budget_pages = 4096;  // of each node
    std::uint32_t page_timeout_ms = 5000;
    std::uint32_t write_back_ms = 0;
    unsigned read_ahead_pages = 64;
  };
  static constexpr ContainerId kFile{1};
  static constexpr ContainerId kMemory{2};
  static constexpr unsigned kHome = 0;

  // All nodes serve one view. kFile is a file of node kHome, an empty one, whose size is `bytes`.
  FileCluster(const Options& options, std::uint64_t bytes);
  ~FileCluster();

  // The file as it is on the home's disk.
  void put_on_disk(std::uint64_t offset, const std::string& bytes);
  [[nodiscard]] std::string on_disk(std::uint64_t offset, std::size_t length) const;
  [[nodiscard]] int disk() const { return disk_.get(); }
  // Another open file in its place.
  void bind(UniqueFd file, std::uint64_t bytes);

  // Each waits for the end.
  Result<std::string> read(unsigned node, std::uint64_t offset, std::size_t length,
                           Caching caching = Caching::kNone);
  Status write(unsigned node, std::uint64_t offset, const std::string& bytes,
               Caching caching = Caching::kNone);
  Status write_back(FileRange range = {});
  Status discard(FileRange range);
  FileData& files(unsigned node);
  // Runs `work` on each shard of the node, one after the other.
  void on_shards(unsigned node, const std::function<void(Shard&)>& work);

  // As a crash; the others go on in a new view.
  void kill(unsigned node);
  // It comes back, empty. A home has its disk again and binds it.
  void restart(unsigned node);

 private:
  struct Node;
  void start(unsigned node);
  void install_view(std::vector<NodeId> dead);
  void wait_for_links();

  const Options options_;
  const std::uint64_t bytes_;
  UniqueFd disk_;
  MemoryHub hub_;
  std::vector<std::unique_ptr<Node>> nodes_;  // null: down
  View view_;
};

}  // namespace gob::test
