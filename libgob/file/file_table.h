// FileTable: what the home of files keeps for the nodes that use them: files by number, held by
// O_PATH descriptors, so that no name is ever resolved twice, and opened files. Every reference
// belongs to a node and ends with it. Any thread.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "libgob/base/ids.h"
#include "libgob/base/unique_fd.h"
#include "libgob/file/change_gate.h"
#include "libgob/file/lock_table.h"
#include "libgob/file/page_turns.h"

namespace gob::file {

// A file, folder or link of an attached tree. Constant but for its locks. A regular file is the
// same by whatever attachments it is reached, so that there is one order of its changes; of
// anything else each attachment has its own, since a kernel knows a folder in one place only.
struct OpenFile;
struct File : std::enable_shared_from_this<File> {
  std::uint64_t number = 0;
  ContainerId attached;  // by which it was first reached
  UniqueFd path;         // O_PATH
  dev_t device = 0;
  ino_t inode = 0;
  dev_t root_device = 0;
  std::uint64_t mount = 0;  // of `path`, as statx(2) numbers mounts
  static constexpr unsigned kMostAskings = 3;  // that it be forgotten because it was removed
  std::atomic<unsigned> asked_to_forget = 0;
  std::atomic<std::uint64_t> used = 0;  // when it was last asked for something, in requests
  bool regular = false;
  bool of_gob = false;  // a mount of gob itself: nothing is looked at below it

  std::mutex locks_mutex;
  LockTable locks;  // guarded by locks_mutex

  std::mutex changes_mutex;
  // Guarded by changes_mutex:
  ChangeGate changes;   // of its size; of a folder, of the names of folders in it
  bool kept = false;    // some node with a lease may keep the attributes as well
  bool varies = false;  // it is mapped: its attributes change by themselves

  // Held while the disk makes room for a write to a mapped file, so that each append has its place,
  // and while its size is looked at and told to FileData, so that the last to tell it has the
  // newest; the other mutexes may be needed by threads that must not wait for a disk.
  std::mutex room_mutex;

  // Its bytes in memory, once a node opened it for reading.
  enum class Data : std::uint8_t { kNone, kOpening, kReady };
  std::mutex data_mutex;
  std::condition_variable data_settled;
  // Guarded by data_mutex:
  Data data = Data::kNone;
  ContainerId container;
  std::string container_name;
  bool forgotten = false;  // nobody has it any more
  // Programs may write its pages in memory (file_server_mapped.cc), and from then on all changes go
  // by the pages. Until the others have ended, who asked for that waits, and those that go by the
  // pages: the others forget pages.
  bool mapped = false;
  unsigned plain_changes = 0;
  std::vector<std::function<void()>> after_plain;
  PageTurns turns;  // of changes that go by the pages
};

// A node from when it is heard of until its link ends. When it comes again it is another: what the
// earlier one still waits for would be given to nobody, and block others.
struct Life {
  explicit Life(NodeId id) : node(id) {}
  const NodeId node;
  // Set before what it has is dropped. Whoever gives it something looks under the mutex under which
  // it would be dropped.
  std::atomic<bool> over = false;
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
  using Attachments = std::set<ContainerId>;

  // `forgotten` hears of a file that nobody has any more, and by which attachments it was reached.
  // It must not call the table.
  using Forgotten = std::function<void(File&, const Attachments&)>;
  explicit FileTable(Forgotten forgotten) : forgotten_(std::move(forgotten)) {}

  // What was found below an attachment.
  struct Found {
    ContainerId attached;
    dev_t root_device = 0;
    UniqueFd path;  // O_PATH
    dev_t device = 0;
    ino_t inode = 0;
    std::uint64_t mount = 0;
    bool regular = false;
    bool of_gob = false;
  };
  // Gives `node` a reference to it. The same file has one number as long as somebody has a
  // reference; `path` is taken if nobody had. Null: the node is gone, or the attachment has ended.
  std::shared_ptr<File> adopt(const Life& node, Found& found);
  [[nodiscard]] std::shared_ptr<File> find(std::uint64_t number) const;
  // What is in a folder under a name; 0: no node knows it.
  [[nodiscard]] std::uint64_t number_in(const File& folder, const std::string& name) const;
  // Everything that is the same on the host, `file` too if it is still here.
  [[nodiscard]] std::vector<std::shared_ptr<File>> same_as(const File& file) const;
  [[nodiscard]] bool is_reached_by(const File& file, ContainerId attached) const;
  // The nodes that have references to it.
  [[nodiscard]] std::vector<NodeId> holders(std::uint64_t number) const;
  // The node gives `count` references back. Those of a peer that counts wrongly hurt only itself.
  void forget(NodeId node, std::uint64_t number, std::uint64_t count);
  // The last of adopt().
  void forget(const Life& node, std::uint64_t number);

  // 0: the node is gone.
  std::uint64_t open(const Life& node, std::shared_ptr<File> file, UniqueFd fd);
  // Null if the node has no such handle.
  [[nodiscard]] std::shared_ptr<OpenFile> find_open(NodeId node, std::uint64_t handle) const;
  std::shared_ptr<OpenFile> release(NodeId node, std::uint64_t handle);

  // What is dropped, for a thread that may wait for the disk to close it.
  using Garbage = std::vector<std::shared_ptr<void>>;
  // Everything of a node that is gone; the files that have locks of any node.
  std::vector<std::shared_ptr<File>> drop_node(NodeId node, Garbage& garbage);
  // What is below it may be adopted from now on.
  void add_attachment(ContainerId attached);
  // Everything that was reached only by an attachment that ends.
  void drop_attachment(ContainerId attached, Garbage& garbage);

  [[nodiscard]] std::vector<std::shared_ptr<File>> all() const;
  [[nodiscard]] std::size_t files() const;
  [[nodiscard]] std::size_t handles() const;

 private:
  struct Identity {
    dev_t device;
    ino_t inode;
    std::uint32_t attached;  // 0: a regular file
    friend auto operator<=>(const Identity&, const Identity&) = default;
  };
  struct Entry {
    std::shared_ptr<File> file;
    std::map<NodeId, std::uint64_t> references;
    Attachments attachments;
  };
  void give_back(NodeId node, std::uint64_t number, std::uint64_t count);
  void erase(std::unordered_map<std::uint64_t, Entry>::iterator entry);

  const Forgotten forgotten_;
  mutable std::mutex mutex_;
  // Guarded by mutex_:
  std::unordered_map<std::uint64_t, Entry> files_;
  std::map<Identity, std::uint64_t> numbers_;
  std::unordered_map<std::uint64_t, std::shared_ptr<OpenFile>> open_;
  Attachments attachments_;
  std::uint64_t last_number_ = 0;
  std::uint64_t last_handle_ = 0;
};

}  // namespace gob::file
