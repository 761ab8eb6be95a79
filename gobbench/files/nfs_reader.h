// Reads a file over NFS version 4 in this process, by libnfs: no kernel client, no cache.
#pragma once

#include <cstdint>
#include <string>

#include "gobbench/files/read_plan.h"

namespace gob::bench {

struct NfsPlace {
  std::string host;  // numeric
  std::uint16_t port = 0;
  std::string path;   // of the file, as the server exports it
  int netns_fd = -1;  // where the client is; -1: this program's namespace
};

// Seconds from the first read to the last answer, with plan.depth reads on one connection. Fails on
// wrong bytes, and after 30 s without an answer.
[[nodiscard]] Result<double> read_nfs(const NfsPlace& place, const ReadPlan& plan);

}  // namespace gob::bench
