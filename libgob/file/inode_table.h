// InodeTable: the files that this node's kernel knows by number under the mount, and what they are
// at their homes. Any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "libgob/base/ids.h"

namespace gob::file {

// A file at its home.
struct RemoteFile {
  NodeId home;
  std::uint64_t incarnation = 0;
  std::uint64_t file = 0;
  friend auto operator<=>(const RemoteFile&, const RemoteFile&) = default;
};

class InodeTable {
 public:
  static constexpr std::uint64_t kRootInode = 1;  // the mount's own folder, which is nobody's file

  [[nodiscard]] std::optional<RemoteFile> find(std::uint64_t inode) const;
  // The kernel's number for the file; 0 if it knows none, or was not told yet.
  [[nodiscard]] std::uint64_t number_of(const RemoteFile& remote) const;
  // Those of a home's files.
  [[nodiscard]] std::vector<RemoteFile> of(NodeId home) const;
  // The home gave a reference, and the kernel will be told: its number for the file. Numbers are
  // never used again.
  std::uint64_t enter(const RemoteFile& remote);
  // The answer that tells the kernel is about to be given.
  void note_told(std::uint64_t inode);
  // The kernel will be told without a new reference: 0 if it knows the file no more.
  std::uint64_t enter_again(const RemoteFile& remote);
  // The kernel was told that this is a name of the file. Of several it is the latest that counts.
  void note_name(std::uint64_t inode, std::uint64_t folder, std::string name);
  struct Name {
    std::uint64_t folder = 0;  // inode
    std::string name;
    friend bool operator==(const Name&, const Name&) = default;
  };
  // It has another one instead.
  void note_moved(const RemoteFile& remote, const Name& was, Name is);
  static constexpr std::size_t kMostNames = 16;
  // The latest ones, the last at the end.
  [[nodiscard]] std::vector<Name> names_of(const RemoteFile& remote) const;
  // The kernel gives `lookups` back. When it knows the file no more: the file, and how many
  // references the home is to be given back.
  struct Gone {
    RemoteFile remote;
    std::uint64_t references = 0;
  };
  // `gone`, if so, is called before the file can be entered again. It must not call the table.
  std::optional<Gone> forget(std::uint64_t inode, std::uint64_t lookups,
                             const std::function<void(const RemoteFile&)>& gone);
  // Where the file was last found, from the mount's own folder on; empty: the kernel does not know
  // it.
  [[nodiscard]] std::string path_of(const RemoteFile& remote) const;

  // Whether a program here ever locked it, by the kind of lock.
  void note_lock(std::uint64_t inode, bool flock);
  [[nodiscard]] bool may_have_lock(std::uint64_t inode, bool flock) const;

  [[nodiscard]] std::size_t size() const;

 private:
  struct Inode {
    RemoteFile remote;
    std::vector<Name> names;
    std::uint64_t lookups = 0;
    std::uint64_t references = 0;
    bool told = false;
    bool record_locks = false;
    bool flocks = false;
  };

  static void add_name(Inode& inode, Name latest);

  mutable std::mutex mutex_;
  // Guarded by mutex_:
  std::unordered_map<std::uint64_t, Inode> inodes_;
  std::map<RemoteFile, std::uint64_t> numbers_;
  std::uint64_t last_ = kRootInode;
};

}  // namespace gob::file
