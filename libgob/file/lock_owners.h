// LockOwners: by whom an open file was locked, as far as the kernel does not say so when it
// matters. Of record locks: it says when a process closes the file, with which its own locks end;
// of locks of the open file itself (F_OFD_SETLK) it says nothing when that ends. By then there are
// no others. Of all: when a process takes its locks along to another node. Any thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "libgob/base/ids.h"

namespace gob::file {

class LockOwners {
 public:
  // `file`: whatever tells open files apart.
  void note(const void* file, std::uint64_t owner) {
    const std::lock_guard guard(mutex_);
    files_[file].records.insert(owner);
  }
  void note_flock(const void* file, std::uint64_t owner) {
    const std::lock_guard guard(mutex_);
    files_[file].flock = owner;
  }
  void drop(const void* file, std::uint64_t owner) {
    const std::lock_guard guard(mutex_);
    const auto found = files_.find(file);
    if (found != files_.end()) found->second.records.erase(owner);
  }
  // The open file ends: the owners of record locks that are left, for the last time.
  [[nodiscard]] std::set<std::uint64_t> take(const void* file) {
    const std::lock_guard guard(mutex_);
    const auto found = files_.extract(file);
    return found ? found.mapped().records : std::set<std::uint64_t>();
  }

  // A thread asked for a lock (F_GETLK). If it did so by F_OFD_GETLK, the owner is the open file.
  void note_asked(const void* file, pid_t thread, std::uint64_t owner) {
    const std::lock_guard guard(mutex_);
    files_[file].asked = {thread, owner};
  }
  // Of record locks and of locks of the open file, and of its flock(2); which of the former
  // `thread` asked in the name of, if it was the last to ask.
  struct Known {
    std::set<std::uint64_t> records;
    std::optional<std::uint64_t> flock;
    std::optional<std::uint64_t> asked;
  };
  [[nodiscard]] Known known(const void* file, pid_t thread) const {
    const std::lock_guard guard(mutex_);
    const auto found = files_.find(file);
    if (found == files_.end()) return {};
    const File& known = found->second;
    const bool by_it = known.asked.first == thread;
    return {known.records, known.flock, by_it ? std::optional(known.asked.second) : std::nullopt};
  }

  // What was offered to another node, until it is taken back.
  using Offer = std::pair<std::uint64_t, bool>;  // owner, and whether of flock(2)
  void note_offer(const void* file, Offer offer) {
    const std::lock_guard guard(mutex_);
    files_[file].offers.push_back(offer);
  }
  [[nodiscard]] std::vector<Offer> take_offers(const void* file) {
    const std::lock_guard guard(mutex_);
    const auto found = files_.find(file);
    return found == files_.end() ? std::vector<Offer>() : std::exchange(found->second.offers, {});
  }

  // From now on the file is locked in the place of an owner on another node, or (none) no more.
  using Elsewhere = std::pair<NodeId, std::uint64_t>;
  void set_joining(const void* file, std::optional<Elsewhere> first) {
    const std::lock_guard guard(mutex_);
    files_[file].joining = first;
  }
  [[nodiscard]] std::optional<Elsewhere> joining(const void* file) const {
    const std::lock_guard guard(mutex_);
    const auto found = files_.find(file);
    return found == files_.end() ? std::nullopt : found->second.joining;
  }

 private:
  struct File {
    std::set<std::uint64_t> records;
    std::optional<std::uint64_t> flock;
    std::pair<pid_t, std::uint64_t> asked{0, 0};
    std::vector<Offer> offers;
    std::optional<Elsewhere> joining;
  };
  mutable std::mutex mutex_;
  std::map<const void*, File> files_;  // guarded by mutex_
};

}  // namespace gob::file
