// Which file is which: what a node can say of a file so that another node can tell whether it has
// the same one. Functions over stat(2) and /proc; any thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>

#include "libgob/base/result.h"
#include "libgob/migration/migration.pb.h"

namespace gob::migration {

// The network file systems among a process's mounts, by number of the mount. The same text at two
// nodes is the same file system.
class NetworkMounts {
 public:
  explicit NetworkMounts(const std::string& mountinfo);
  // Empty: not one of them.
  [[nodiscard]] std::string server(std::uint64_t mount) const;

 private:
  std::map<std::uint64_t, std::string> servers_;
};

// Changes when the machine starts again; equal for nodes that share a kernel.
std::string boot_id();
// Of what is at `at`, links followed. ENOENT and so on as stat(2).
Result<File> facts_of(const std::string& at, const NetworkMounts& mounts);
// What the linker put into the program or library at `at`, so that one build can be told from
// another; empty: it is none, or has no such mark. At most the first notes are read, however large
// it is.
std::string build_id_of(const std::string& at);
// Are these two the very same file? `one_machine`: both were looked at under one kernel.
bool is_same_file(const File& theirs, const File& ours, bool one_machine);
// Is `path` the folder, or below it?
bool is_below(const std::string& path, const std::string& folder);

}  // namespace gob::migration
