// Network namespaces for the nodes of a private cluster: one for each node, joined by veth pairs to
// a bridge in one more. They have no names, so nothing is left when their last user ends, however
// it ends. Needs root and iproute2. Main thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"

namespace gob::bench {

class Network {
 public:
  // `bits_per_second`: what each node may send; 0: as much as it can.
  static Result<Network> create(unsigned nodes, std::uint64_t bits_per_second = 0);

  // For setns(2).
  [[nodiscard]] int netns_fd(unsigned node) const { return nodes_[node].get(); }
  // Address of the node, which the others reach.
  [[nodiscard]] static std::string address(unsigned node);

  static constexpr unsigned kMaxNodes = 200;

 private:
  UniqueFd bridge_;
  std::vector<UniqueFd> nodes_;
};

}  // namespace gob::bench
