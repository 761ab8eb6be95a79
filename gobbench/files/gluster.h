// glusterfs, one more of the file servers of others: a volume of one brick, with the graph of
// translators that its own tools make by default. Main thread.
#pragma once

#include <string>

#include "gobbench/files/peer_program.h"
#include "gobbench/process.h"
#include "gobbench/tcp_pair.h"
#include "libgob/base/result.h"

namespace gob::bench {

class GlusterMount {
 public:
  // Shows `brick`, a folder of the server's side of `places`, at `mount_point` on the client's.
  // glusterfs keeps files of its own in `brick`, and links to those that were read; its logs go to
  // `scratch`. kUnsupported if it is not installed; it needs root.
  static Result<GlusterMount> start(const std::string& brick, const std::string& mount_point,
                                    const std::string& scratch, const TcpPlaces& places);
  [[nodiscard]] const std::string& path() const { return client_.path(); }

 private:
  GlusterMount(Process server, MountedPeer client)
      : server_(std::move(server)), client_(std::move(client)) {}

  Process server_;
  MountedPeer client_;  // ends first
};

}  // namespace gob::bench
