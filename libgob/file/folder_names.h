// FolderNames: which folder a name in another folder stands for, as far as this node may believe
// it: as long as the lease on that other folder holds under which its home said so
// (FileReply.name_lease), and for a second at most, so that what programs of the home do to its
// disk by themselves is seen. Any thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "libgob/file/file_message.h"
#include "libgob/file/inode_table.h"

namespace gob::file {

class FolderNames {
 public:
  using Clock = std::chrono::steady_clock;
  using Now = std::function<Clock::time_point()>;  // for tests
  static constexpr std::chrono::seconds kLongest{1};
  static constexpr std::size_t kMost = 10'000;

  struct Known {
    RemoteFile file;
    peer::FileAttributes attributes;  // as they were; only what cannot change is to be relied on
    std::uint64_t lease = 0;          // on `folder`
  };

  explicit FolderNames(Now now = &Clock::now) : now_(std::move(now)) {}

  void note(const RemoteFile& folder, const std::string& name, Known known);
  void forget(NodeId home);
  [[nodiscard]] std::optional<Known> find(const RemoteFile& folder, const std::string& name);

 private:
  struct Entry {
    Known known;
    Clock::time_point until;
  };
  const Now now_;
  std::mutex mutex_;
  std::map<std::pair<RemoteFile, std::string>, Entry> entries_;  // guarded by mutex_
};

}  // namespace gob::file
