// File servers of others that the cooperative cache is measured against, each for the time of an
// object: an NFS server, and a file system over the file transfer protocol of ssh. gluster.h has
// one more. Main thread.
#pragma once

#include <cstdint>
#include <string>

#include "gobbench/files/peer_program.h"
#include "gobbench/process.h"
#include "gobbench/tcp_pair.h"
#include "libgob/base/result.h"

namespace gob::bench {

// nfs-ganesha, version 4 only, with a folder of this machine as /files.
class NfsServer {
 public:
  // Its files go to `scratch`. kUnsupported if it is not installed; it needs root.
  static Result<NfsServer> start(const std::string& folder, const std::string& scratch,
                                 const std::string& host, int netns_fd);
  [[nodiscard]] std::uint16_t port() const { return port_; }

 private:
  NfsServer(Process process, std::uint16_t port) : process_(std::move(process)), port_(port) {}

  Process process_;
  std::uint16_t port_;
};

// sshfs and sftp-server, joined by a plain TCP connection: nothing is encrypted, which is to their
// advantage. Shows `folder`, as the server's side of `places` sees it, at `mount_point` on the
// client's, as long as the result lives. kUnsupported if one of the programs is not installed.
Result<ServedMount> mount_sshfs(const std::string& folder, const std::string& mount_point,
                                const TcpPlaces& places);

}  // namespace gob::bench
