// `gobctl cluster`: a development cluster on this machine, one gobd a node, all of one user.
// Used by one thread, which must have no others.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "gobctl/arguments.h"
#include "gobctl/cluster_dir.h"
#include "libgob/base/result.h"

namespace gob::ctl {

struct ClusterPlan {
  std::uint32_t nodes = 3;
  std::uint64_t budget_bytes = 0;
  std::uint64_t swap_bytes = 0;  // 0: no swap
  std::uint32_t shards = 1;
  bool mount = false;  // each with a mount for attached files
  bool netns = false;  // each node in a network namespace of its own
  std::string gobd;    // empty: find_gobd()
  std::chrono::milliseconds timeout{};
};

// All nodes run and serve, or nothing is left behind but the logs. kAlreadyExists if a node of a
// cluster in `dir` still runs; the remains of a dead one are replaced.
Status cluster_up(const ClusterDir& dir, const ClusterPlan& plan, Io& io);

// SIGTERM to all, SIGKILL to those that have not ended in time, then removes namespaces and files
// (unless `keep`).
Status cluster_down(const ClusterDir& dir, std::chrono::milliseconds timeout, bool keep, Io& io);

// Ends one node, if it runs, and starts it again with its configuration: empty.
Status cluster_restart(const ClusterDir& dir, const std::string& node, const std::string& gobd,
                       std::chrono::milliseconds timeout, Io& io);

// kUnavailable, after the report, if a node does not run.
Status cluster_status(const ClusterDir& dir, bool json, Io& io);

}  // namespace gob::ctl
