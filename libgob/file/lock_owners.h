// LockOwners: who has taken record locks by an open file and has not given them up. The kernel says
// when a process closes the file, with which its own locks end; of locks of the open file itself
// (F_OFD_SETLK) it says nothing when that ends. By then there are no others. Any thread.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <set>

namespace gob::file {

class LockOwners {
 public:
  // `file`: whatever tells open files apart.
  void note(const void* file, std::uint64_t owner) {
    const std::lock_guard guard(mutex_);
    owners_[file].insert(owner);
  }
  void drop(const void* file, std::uint64_t owner) {
    const std::lock_guard guard(mutex_);
    const auto found = owners_.find(file);
    if (found == owners_.end()) return;
    found->second.erase(owner);
    if (found->second.empty()) owners_.erase(found);
  }
  // The open file ends: those that are left, for the last time.
  [[nodiscard]] std::set<std::uint64_t> take(const void* file) {
    const std::lock_guard guard(mutex_);
    const auto found = owners_.extract(file);
    return found ? found.mapped() : std::set<std::uint64_t>();
  }

 private:
  std::mutex mutex_;
  std::map<const void*, std::set<std::uint64_t>> owners_;  // guarded by mutex_
};

}  // namespace gob::file
