// What all experiments are told, and the clusters they run on.
#pragma once

#include <string>

#include "gobbench/cluster.h"

namespace gob::bench {

struct Session {
  std::string cluster_dir;  // empty: private clusters
  bool netns = false;       // this and what follows: of private clusters
  std::uint32_t shards = 1;
  std::string transport = "auto";
  bool read_ahead = true;  // as gobd does by itself

  // A private cluster of options.nodes nodes, or the running one, which must have as many.
  [[nodiscard]] Result<Cluster> cluster(ClusterOptions options) const;
  [[nodiscard]] bool is_private() const { return cluster_dir.empty(); }
  // How nodes are joined, for reports.
  [[nodiscard]] std::string network() const;
};

// A name that no other run of gobbench uses, for a container or a barrier.
[[nodiscard]] std::string unique_name(const std::string& what);

}  // namespace gob::bench
