// How fast a program reads a container that another node holds, next to a plain TCP stream.
#pragma once

#include <cstdint>
#include <string>

#include "gobbench/outcome.h"
#include "gobbench/session.h"

namespace gob::bench {

struct StreamOptions {
  std::uint64_t bytes = std::uint64_t{256} << 20;  // of the container, in whole pages
  unsigned runs = 3;                               // the median counts
  bool pin = false;           // keep each node to a core, where there are enough
  std::string rdma_device{};  // measure perftest's tools on it, too; empty: none
};

// Every word read is checked. Fails on a wrong one.
[[nodiscard]] Result<Outcome> run_stream(const Session& session, const StreamOptions& options);

}  // namespace gob::bench
