// Cluster: the nodes that an experiment runs on. Either a private one of real gobd processes, which
// ends with this object, or a development cluster that runs already (gobctl cluster up). Main
// thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gobbench/leftovers.h"
#include "gobbench/mount_point.h"
#include "gobbench/netns.h"
#include "gobbench/process.h"
#include "libgob/base/result.h"

namespace gob::bench {

struct ClusterOptions {
  unsigned nodes = 2;
  std::uint64_t budget_bytes = std::uint64_t{1} << 30;  // frames of each node
  std::uint32_t shards = 1;
  std::string transport = "auto";                 // as in gobd.toml
  std::optional<std::uint32_t> read_ahead_pages;  // empty: gobd's own choice
  bool netns = false;                             // each node in a network namespace of its own
  std::uint64_t bits_per_second = 0;  // that each node may send, with netns; 0: no limit
  bool mount = false;                 // each node with a mount for attached files
  bool pin = false;                   // node k and its programs on the k-th core
  std::string gobd;                   // program to run; empty: find_gobd()
};

struct ClusterNode {
  std::string name;
  std::string host;  // address that the other nodes reach
  std::string control_socket;
  std::string mount;            // where it shows attached files; empty: nowhere
  int netns_fd = -1;            // -1: this program's namespace
  std::optional<unsigned> cpu;  // core that the node is kept on
};

class Cluster {
 public:
  // Starts gobd processes and waits until all are ready. The error holds the end of the log of the
  // node that failed.
  static Result<Cluster> start(const ClusterOptions& options);
  // The nodes of `gobctl cluster up --dir DIR`.
  static Result<Cluster> attach(const std::string& directory);

  [[nodiscard]] const std::vector<ClusterNode>& nodes() const { return nodes_; }
  [[nodiscard]] unsigned size() const { return static_cast<unsigned>(nodes_.size()); }
  // Of a private cluster: a place for files, gone with it.
  [[nodiscard]] const std::string& directory() const { return directory_->path(); }
  [[nodiscard]] bool is_private() const { return directory_.has_value(); }
  // What the log of a private node ends with, for errors; empty for others.
  [[nodiscard]] std::string log_end(unsigned node) const;

 private:
  Cluster() = default;
  Status launch(const ClusterOptions& options);
  Status wait_ready(std::vector<UniqueFd>& notifications);

  std::optional<TemporaryDirectory> directory_;  // outlives the daemons below
  std::optional<Network> network_;
  std::vector<ClusterNode> nodes_;
  std::vector<MountPoint> mounts_;  // unmounted once the daemons have ended
  std::vector<Process> daemons_;
};

// Path of gobd: beside this program, where a build leaves it, or just "gobd" for a search in PATH.
[[nodiscard]] std::string find_gobd();

}  // namespace gob::bench
