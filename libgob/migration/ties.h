// What processes that move have in common with each other, and must not have in common with one
// that stays: ends of pipes and sockets, shared memory, files without a name. Functions over /proc
// and sock_diag(7); one thread.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace gob::migration {

class Ties {
 public:
  // One end of something that others may reach by the same link in /proc/PID/fd, "pipe:[1]" or a
  // named pipe's path. `who` begins a sentence: "descriptor 3 of process 7 is pipe:[1]".
  void add(const std::string& link, const std::string& who) { links_.emplace(link, who); }
  // Memory, or a file whose name is gone; false: it is known.
  bool add(const struct stat& file, const std::string& who) {
    return files_.emplace(Key{file.st_dev, file.st_ino}, who).second;
  }
  // One obstacle for each that a process has which stays.
  [[nodiscard]] std::vector<std::string> outside(const std::function<bool(pid_t)>& stays) const;

 private:
  using Key = std::pair<std::uint64_t, std::uint64_t>;  // device, inode
  // What of all this process `pid` has, too.
  void look_at(const std::string& pid, std::set<std::string>& shared) const;
  void look_at_file(const std::string& path, std::set<std::string>& shared) const;

  std::map<std::string, std::string> links_;
  std::map<Key, std::string> files_;
};

// The socket at the other end of a Unix socket.
struct UnixPeer {
  bool named = false;      // others can find it, or could when it was made
  std::uint64_t peer = 0;  // inode; 0: it is not connected
};
// All Unix sockets of this network namespace, by inode; empty if the kernel does not say.
std::map<std::uint64_t, UnixPeer> unix_sockets();

}  // namespace gob::migration
