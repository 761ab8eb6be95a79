// ChannelPair: two nodes of a transport in this program, joined over loopback, of which one asks
// for pages and the other answers: what a page costs at the level of the transport. Each node is a
// thread that waits like gobd does, or polls without a pause.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/transport/tcp_transport.h"

namespace gob::bench {

struct ChannelPairOptions {
  VerbsUse verbs = VerbsUse::kNever;
  std::string rdma_device;
  bool polls = false;  // without a pause; else both ends wait on their descriptors
  std::chrono::microseconds busy_wait{200};  // rdma_poll_us, if they wait
  unsigned under_way = 1;                    // requests at a time
  unsigned pages = 10000;                    // to ask for
};

struct ChannelPairResult {
  std::vector<std::uint64_t> round_ns;  // of each request until its page is in place
  double seconds = 0;                   // from the first request to the last page
  double machine_cpu_seconds = 0;       // of everything on this machine meanwhile, kernel included
  PathInfo path;                        // of the requester
};

// Fails if the messages did not go the way that was asked for.
[[nodiscard]] Result<ChannelPairResult> measure_channel_pair(const ChannelPairOptions& options);

}  // namespace gob::bench
