// glusterfs, one more of the file servers of others: a volume of one brick, with the graph of
// translators that its own tools make by default. Main thread.
#pragma once

#include <string>

#include "gobbench/files/peer_program.h"
#include "gobbench/tcp_pair.h"
#include "libgob/base/result.h"

namespace gob::bench {

// Shows `brick`, a folder of the server's side of `places`, at `mount_point` on the client's, as
// long as the result lives. glusterfs keeps files of its own in `brick`, and links to those that
// were read; its logs go to `scratch`. kUnsupported if it is not installed; it needs root.
Result<ServedMount> mount_glusterfs(const std::string& brick, const std::string& mount_point,
                                    const std::string& scratch, const TcpPlaces& places);

}  // namespace gob::bench
