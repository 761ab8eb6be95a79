// Programs of others that gobbench measures against: started, waited for, and named by their Debian
// package if they are not installed. Main thread.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "gobbench/mount_point.h"
#include "gobbench/process.h"
#include "libgob/base/result.h"

namespace gob::bench {

struct Peer {
  std::string name;
  std::string package;  // of Debian
  std::string log;      // file that errors show the end of; empty: none
};

// kUnsupported.
[[nodiscard]] Error missing(const Peer& peer);

// Process::spawn; kUnsupported if the program is not installed.
[[nodiscard]] Result<Process> spawn_peer(const Peer& peer, const SpawnOptions& options);

// A TCP port of `host` that nobody listens on, seen from a namespace.
[[nodiscard]] Result<std::uint16_t> free_port(const std::string& host, int netns_fd);

// Returns once `process`, which has no way to say that it is ready, listens there.
[[nodiscard]] Status wait_for_listener(const Peer& peer, const Process& process,
                                       const std::string& host, std::uint16_t port, int netns_fd);

// A program in the foreground with the FUSE file system that it shows.
class MountedPeer {
 public:
  // Returns once something is mounted at `mount_point`. kUnsupported as spawn_peer.
  static Result<MountedPeer> start(const Peer& peer, const SpawnOptions& options,
                                   const std::string& mount_point);
  [[nodiscard]] const std::string& path() const { return mount_.path(); }

 private:
  MountedPeer(Process process, MountPoint mount)
      : process_(std::move(process)), mount_(std::move(mount)) {}

  Process process_;
  MountPoint mount_;  // unmounted before the process ends
};

// Such a file system whose files another program serves.
class ServedMount {
 public:
  ServedMount(Process server, MountedPeer client)
      : server_(std::move(server)), client_(std::move(client)) {}
  [[nodiscard]] const std::string& path() const { return client_.path(); }

 private:
  Process server_;
  MountedPeer client_;  // ends first
};

}  // namespace gob::bench
