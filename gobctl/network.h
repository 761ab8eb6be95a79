// Networks for development clusters: free ports on the loopback address, or a network namespace for
// each node and a bridge in one more, so that nothing of it is seen outside. Used by one thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "libgob/base/result.h"

namespace gob::ctl {

// Ports of 127.0.0.1 that nobody uses now, outside the range from which the kernel takes ports for
// outgoing connections, so that they stay free until gobd takes them.
Result<std::vector<std::uint16_t>> free_ports(std::size_t count);

struct Namespaces {
  std::vector<std::string> names;      // of the nodes, in order, then the one that holds the bridge
  std::vector<std::string> addresses;  // of the nodes: 10.78.0.1, ...
};
// What make_namespaces() will make for a cluster with this tag: to be noted before, so that it can
// be removed whatever happens.
Namespaces plan_namespaces(const std::string& tag, const std::vector<std::string>& nodes);
// Needs root and ip(8).
Status make_namespaces(const Namespaces& plan);
// Also when only some of them exist.
Status remove_namespaces(const std::vector<std::string>& names);

}  // namespace gob::ctl
