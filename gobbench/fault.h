// What a page fault on another node's page costs, next to what it cannot do without: one exchange
// over TCP and one bare fault handled through userfaultfd.
#pragma once

#include <string>
#include <vector>

#include "gobbench/outcome.h"
#include "gobbench/session.h"

namespace gob::bench {

struct FaultOptions {
  std::vector<unsigned> nodes = {2, 4};  // sizes of the clusters to measure on; each at least 2
  unsigned samples = 2000;               // of each kind of fault
  unsigned rounds = 8;                   // in which all kinds take turns
  bool pin = false;                      // keep each node to a core, where there are enough
  std::string rdma_device{};             // measure perftest's tools on it, too; empty: none
};

[[nodiscard]] Result<Outcome> run_fault(const Session& session, const FaultOptions& options);

}  // namespace gob::bench
