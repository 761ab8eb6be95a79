// The in-memory transport: the nodes of a cluster inside one process, for tests. Same contract as
// every transport, with faults on demand. Everything is safe from any thread except channels, which
// have one owner each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "libgob/transport/transport.h"

namespace gob {

// The network that in-memory nodes share.
class MemoryHub {
 public:
  struct Config {
    std::size_t nodes = 0;
    unsigned shards = 1;
    std::size_t max_queued_bytes = std::size_t{64} << 20;  // from one peer on one channel
  };

  explicit MemoryHub(const Config& config);
  ~MemoryHub();

  // Starts node `self`. Fails with kAlreadyExists while another incarnation of it runs.
  // `incarnation` 0: one never used before. A node ends when its transport and its channels are
  // gone.
  [[nodiscard]] Result<std::unique_ptr<Transport>> open(NodeId self, std::uint64_t incarnation = 0);

  // Cuts the network between two nodes: their links time out, new ones cannot be made.
  void cut(NodeId a, NodeId b);
  // Mends it. Incarnations whose links were cut stay refused.
  void heal(NodeId a, NodeId b);

 private:
  friend class MemoryTransport;
  friend class MemoryChannel;
  class Network;
  const std::shared_ptr<Network> network_;
};

}  // namespace gob
