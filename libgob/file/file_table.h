// FileTable: what the home of files keeps for the nodes that use them: files by number, held by
// O_PATH descriptors, so that no name is ever resolved twice, and opened files. Every reference
// belongs to a node and ends with it. Any thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "libgob/base/ids.h"
#include "libgob/base/unique_fd.h"
#include "libgob/file/lock_table.h"

namespace gob::file {

// A file, folder or link of an attached tree. Constant but for its locks.
struct OpenFile;
struct File {
  std::uint64_t number = 0;
  ContainerId attached;  // by which it was reached
  UniqueFd path;         // O_PATH
  dev_t device = 0;
  ino_t inode = 0;
  dev_t root_device = 0;

  std::mutex locks_mutex;
  LockTable locks;  // guarded by locks_mutex
};

// open(2) of a program on some node.
struct OpenFile {
  std::shared_ptr<File> file;
  UniqueFd fd;
  NodeId node;
  std::mutex folder_mutex;  // a folder's position is shared by its readers
};

class FileTable {
 public:
  // Takes an O_PATH descriptor of a file below attachment `attached`, and gives `node` a reference.
  // The same file has one number as long as somebody has a reference. Null: fstat(2) failed, errno.
  std::shared_ptr<File> adopt(NodeId node, ContainerId attached, dev_t root_device, UniqueFd path);
  [[nodiscard]] std::shared_ptr<File> find(std::uint64_t number) const;
  // The node gives `count` references back. Those of a peer that counts wrongly hurt only itself.
  void forget(NodeId node, std::uint64_t number, std::uint64_t count);

  std::uint64_t open(NodeId node, std::shared_ptr<File> file, UniqueFd fd);
  // Null if the node has no such handle.
  [[nodiscard]] std::shared_ptr<OpenFile> find_open(NodeId node, std::uint64_t handle) const;
  std::shared_ptr<OpenFile> release(NodeId node, std::uint64_t handle);

  // Everything of a node that is gone; the files whose locks were its.
  std::vector<std::shared_ptr<File>> drop_node(NodeId node);
  // Everything below an attachment that ends.
  void drop_attachment(ContainerId attached);

  [[nodiscard]] std::size_t files() const;
  [[nodiscard]] std::size_t handles() const;

 private:
  struct Identity {
    std::uint32_t attached;
    dev_t device;
    ino_t inode;
    friend auto operator<=>(const Identity&, const Identity&) = default;
  };
  struct Entry {
    std::shared_ptr<File> file;
    std::map<NodeId, std::uint64_t> references;
  };
  void erase(std::unordered_map<std::uint64_t, Entry>::iterator entry);

  mutable std::mutex mutex_;
  // Guarded by mutex_:
  std::unordered_map<std::uint64_t, Entry> files_;
  std::map<Identity, std::uint64_t> numbers_;
  std::unordered_map<std::uint64_t, std::shared_ptr<OpenFile>> open_;
  std::uint64_t last_number_ = 0;
  std::uint64_t last_handle_ = 0;
};

}  // namespace gob::file
