// The page manager's directory entry, one word, and the transactions in flight on top of it.
#pragma once

#include <cstdint>
#include <vector>

#include "libgob/base/ids.h"
#include "libgob/base/node_set.h"
#include "libgob/protocol/event.h"

namespace gob {

// One page that exists; of a file container, one that is in some node's memory. `owner` serves it;
// the owner is always in the copyset.
struct DirectoryEntry {
  std::uint64_t copyset_bits : NodeSet::kBits = 0;
  std::uint64_t owner_bits : 12 = kNoNode.value();
  std::uint64_t lost : 1 = 0;     // its bytes are gone; owner is the node to blame
  std::uint64_t dirty : 1 = 0;    // file container: newer than the file, which must not be read
  std::uint64_t foreign : 1 = 0;  // dirty by others than the home

  [[nodiscard]] NodeSet copyset() const { return NodeSet{copyset_bits}; }
  [[nodiscard]] NodeId owner() const { return NodeId{static_cast<std::uint16_t>(owner_bits)}; }
  void set_copyset(NodeSet set) {
    copyset_bits = set.bits() & ((std::uint64_t{1} << NodeSet::kBits) - 1);
  }
  void set_owner(NodeId node) { owner_bits = node.value() & 0xfffu; }
  friend bool operator==(const DirectoryEntry& a, const DirectoryEntry& b) {
    return a.copyset_bits == b.copyset_bits && a.owner_bits == b.owner_bits && a.lost == b.lost &&
           a.dirty == b.dirty && a.foreign == b.foreign;
  }
};
static_assert(sizeof(DirectoryEntry) == 8);

// A request that waits for the page's current transaction to end.
struct QueuedRequest {
  NodeId requester = kNoNode;
  MessageType type = MessageType::kGet;  // kGet, kGrab, kFlush, kWriteBack or kDiscard
  friend bool operator==(const QueuedRequest&, const QueuedRequest&) = default;
};

// The page is in transit: later requests wait in arrival order. Several reads may share one.
struct Transaction {
  MessageType type = MessageType::kGet;  // kGet (also of a kWriteBack), kGrab, kFlush or kDiscard
  std::vector<NodeId> requesters;        // whose confirmation is awaited
  std::vector<QueuedRequest> queue;
  friend bool operator==(const Transaction&, const Transaction&) = default;
};

}  // namespace gob
