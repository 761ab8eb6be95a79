// cluster up, down, restart, status: from the command line to dev_cluster.h.
#include "gobctl/commands.h"
#include "gobctl/connection.h"
#include "gobctl/dev_cluster.h"
#include "libgob/base/size.h"

namespace gob::ctl {

Status run_cluster_up(const Arguments& arguments, Io& io) {
  ClusterPlan plan;
  plan.nodes = arguments.nodes;
  const auto budget = parse_size(arguments.budget);
  if (!budget) return budget.error();
  plan.budget_bytes = *budget;
  if (!arguments.swap.empty()) {
    const auto swap = parse_size(arguments.swap);
    if (!swap) return swap.error();
    plan.swap_bytes = *swap;
  }
  plan.shards = arguments.shards;
  plan.mount = arguments.mount;
  plan.netns = arguments.netns;
  plan.gobd = arguments.gobd;
  plan.timeout = milliseconds(arguments.timeout_seconds);
  return cluster_up(ClusterDir(arguments.dir), plan, io);
}

Status run_cluster_down(const Arguments& arguments, Io& io) {
  return cluster_down(ClusterDir(arguments.dir), milliseconds(arguments.timeout_seconds),
                      arguments.keep, io);
}

Status run_cluster_restart(const Arguments& arguments, Io& io) {
  return cluster_restart(ClusterDir(arguments.dir), arguments.name, arguments.gobd,
                         milliseconds(arguments.timeout_seconds), io);
}

Status run_cluster_status(const Arguments& arguments, Io& io) {
  return cluster_status(ClusterDir(arguments.dir), arguments.json, io);
}

}  // namespace gob::ctl
