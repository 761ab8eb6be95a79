// The transport between machines: one listening port for a node, one TCP connection for each
// channel and peer. Works on every network; needs nothing but its port. Where both ends have an
// RDMA device and may use it, the messages of shard channels go over it, and over TCP again if it
// fails. Hosts may be names, but looking one up blocks the set-up thread: use addresses where the
// name service may be slow.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "libgob/transport/transport.h"

namespace gob {

// Whether links move from TCP to RDMA.
enum class VerbsUse : std::uint8_t {
  kNever,
  kIfPossible,  // where both ends have a device that works
  kRequired,    // no device here is an error, and a peer without one is refused
};

struct TcpConfig {
  std::string cluster;  // its name: nodes of another one are refused
  NodeId self;
  std::vector<PeerAddress> nodes;  // all of the cluster, self included, in the order of their ids
  std::string bind_host;           // where to listen; empty: at self's own host
  unsigned shards = 1;             // must be the same on all nodes
  std::uint64_t incarnation = 0;   // 0: a random one
  // A peer whose kernel is silent for so long is down.
  std::chrono::milliseconds peer_timeout{2000};
  // So is one that takes nothing of what was sent to it for so long, though its kernel answers.
  std::chrono::milliseconds stall_timeout{10000};
  // To connect and to shake hands.
  std::chrono::milliseconds handshake_timeout{2000};
  std::size_t max_queued_bytes = std::size_t{64} << 20;  // for one peer on one channel
  std::size_t max_half_open = 64;  // connections that have not said yet who they are
  VerbsUse verbs = VerbsUse::kNever;
  std::string rdma_device;  // "device" or "device:port"; empty: the one at self's address, or any
  std::chrono::microseconds verbs_poll{200};  // longest busy wait after traffic over RDMA
};

// Listens and starts to connect. Fails if the configuration cannot work or the address is not to be
// had.
[[nodiscard]] Result<std::unique_ptr<Transport>> open_tcp(TcpConfig config);

}  // namespace gob
