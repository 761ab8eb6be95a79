#include "gobbench/session.h"

#include <unistd.h>

#include <chrono>

namespace gob::bench {

Result<Cluster> Session::cluster(ClusterOptions options) const {
  if (is_private()) {
    options.netns = options.netns || netns;
    options.shards = shards;
    options.transport = transport;
    if (!read_ahead) options.read_ahead_pages = 0;
    return Cluster::start(options);
  }
  Result<Cluster> cluster = Cluster::attach(cluster_dir);
  if (cluster && cluster->size() < options.nodes)
    return make_error(
        ErrorCode::kInvalidArgument,
        "this needs " + std::to_string(options.nodes) + " nodes, but the cluster in " +
            cluster_dir + " has " + std::to_string(cluster->size()) +
            "; give fewer with --nodes, or start a larger one with gobctl cluster up");
  return cluster;
}

std::string Session::network() const {
  if (!is_private()) return "a cluster that was running already";
  return std::string(netns ? "network namespaces joined by veth pairs and a bridge" : "loopback") +
         (transport == "auto" ? "" : ", over " + transport);
}

std::string unique_name(const std::string& what) {
  static unsigned count = 0;
  const auto now = std::chrono::system_clock::now().time_since_epoch().count();
  return "gobbench-" + what + "-" + std::to_string(::getpid()) + "-" +
         std::to_string(now % 1000000) + "-" + std::to_string(++count);
}

}  // namespace gob::bench
