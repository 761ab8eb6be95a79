// ChangeGate: at the home of a file, the order of changes of its size and of leases on it. A change
// is made once every node with a lease has given it back; a lease that is asked for meanwhile waits
// for the change. Pure state; the file service guards it.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <set>
#include <vector>

#include "libgob/base/ids.h"

namespace gob::file {

class ChangeGate {
 public:
  using Work = std::function<void()>;
  using Works = std::vector<Work>;

  struct Begun {
    std::uint64_t number = 0;
    std::set<NodeId> ask;  // to give their leases back, under `number`
    bool ready = false;    // nobody has a lease: the change may be made now
  };
  // `apply` comes out of acknowledged() or node_gone(), unless the change is ready: then it is
  // dropped. While nodes are being asked for an earlier change, this one waits for them, too.
  Begun begin(std::function<void(std::uint64_t number)> apply);
  // The change is made: leases that may be given now.
  [[nodiscard]] Works end(std::uint64_t number);

  // The number of the lease, if it is given now; else 0, and `start` comes out of end().
  std::uint64_t lease(NodeId node, Work start);

  // The same, but it is not waited for.
  std::uint64_t try_lease(NodeId node);

  // The node has no lease of before the change. What may be done now.
  [[nodiscard]] Works acknowledged(NodeId node, std::uint64_t number);
  // The node is gone, and its lease.
  [[nodiscard]] Works node_gone(NodeId node);

 private:
  struct Change {
    std::uint64_t number = 0;
    std::set<NodeId> awaited;
    Work apply;
  };
  Works no_lease_at(NodeId node);
  struct Parked {
    NodeId node;
    Work start;
  };

  std::set<NodeId> holders_;
  std::list<Change> changes_;
  std::list<Parked> parked_;
  std::uint64_t last_ = 0;  // changes and leases are numbered together
};

}  // namespace gob::file
