// Worker: a program on one node that does what the coordinator asks: gobbench itself, run as
// `gobbench worker`, which speaks one line of JSON a request and a reply over stdin and stdout.
// This is the coordinator's end; main thread.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "gobbench/cluster.h"
#include "gobbench/process.h"
#include "gobbench/table.h"

namespace gob::bench {

// A request is bounded by this; far above what the longest experiment needs.
inline constexpr std::chrono::minutes kRequestTimeout{30};

class Worker {
 public:
  static Result<Worker> start(const ClusterNode& node);

  // Sends a request; its field "do" names the work (worker_main.h).
  Status send(const Json& request);
  // Waits for the reply. Fails with the worker's own words, or tells how the worker died.
  Result<Json> receive(std::chrono::milliseconds timeout = kRequestTimeout);
  Result<Json> call(const Json& request);

  [[nodiscard]] const std::string& node() const { return node_; }
  // Readable when a reply or the worker's end can be received.
  [[nodiscard]] int reply_fd() const { return from_worker_.get(); }

 private:
  Worker(Process process, UniqueFd to, UniqueFd from, std::string node)
      : process_(std::move(process)),
        to_worker_(std::move(to)),
        from_worker_(std::move(from)),
        node_(std::move(node)) {}

  Process process_;
  UniqueFd to_worker_;
  UniqueFd from_worker_;
  std::string node_;
  std::string buffer_;  // bytes of replies not yet taken
};

// One worker on each of the first `count` nodes.
[[nodiscard]] Result<std::vector<Worker>> start_workers(const Cluster& cluster, unsigned count);

// Sends requests[i] to workers[i], all at once, and waits for every reply. The first failure ends
// the wait, whoever the others still wait for.
[[nodiscard]] Result<std::vector<Json>> call_all(std::vector<Worker>& workers,
                                                 const std::vector<Json>& requests);

}  // namespace gob::bench
