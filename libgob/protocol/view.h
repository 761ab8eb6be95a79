// View: the members of the cluster in one epoch, and what earlier epochs lost. The page manager of
// every page is a pure function of it (static distributed manager, paper §5.2). Immutable value.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "libgob/base/ids.h"
#include "libgob/base/page_table.h"

namespace gob {

// Node `dead` members of an earlier view died without handing over what they managed. Pages of
// containers older than the loss that one of them managed, and that nobody reported, may have been
// written: they are answered with an error, never with zeros (invariant 6).
struct Loss {
  Epoch epoch;                  // the view that began without them
  std::vector<NodeId> members;  // of the view before it, ascending
  std::vector<NodeId> dead;     // ascending
  friend bool operator==(const Loss&, const Loss&) = default;
};

// Manager of a stripe among `members` (ascending, not empty): neighbouring stripes go round.
inline NodeId manager_among(const std::vector<NodeId>& members, ContainerId container,
                            std::uint64_t stripe) {
  return members[(mix64(container.value()) + stripe) % members.size()];
}

struct View {
  Epoch epoch;
  std::vector<NodeId> members;  // ascending, never empty in a running core
  // Nodes that left in good order: they hold no page any more, but still report what they knew as
  // managers before they go. Ascending.
  std::vector<NodeId> departing;
  std::vector<Loss> losses;  // ascending by epoch

  [[nodiscard]] bool contains(NodeId node) const {
    return std::binary_search(members.begin(), members.end(), node);
  }
  [[nodiscard]] bool departs(NodeId node) const {
    return std::binary_search(departing.begin(), departing.end(), node);
  }
  [[nodiscard]] NodeId manager(ContainerId container, std::uint64_t stripe) const {
    return manager_among(members, container, stripe);
  }
  // The dead node that managed this stripe of a container created in `created`; kNoNode if none.
  [[nodiscard]] NodeId lost_manager(ContainerId container, Epoch created,
                                    std::uint64_t stripe) const {
    for (const Loss& loss : losses) {
      if (created >= loss.epoch) continue;
      const NodeId manager = manager_among(loss.members, container, stripe);
      if (std::binary_search(loss.dead.begin(), loss.dead.end(), manager)) return manager;
    }
    return kNoNode;
  }
  friend bool operator==(const View&, const View&) = default;
};

}  // namespace gob
