// NodeSet: which nodes hold a copy of a page, in 48 bits so that a directory entry is one word.
// Exact for clusters of up to 48 nodes; beyond that bit i stands for all nodes with id % 48 == i (a
// coarse vector), so the set may name nodes that hold nothing: they acknowledge an invalidation
// like any other. Nothing grows with nodes x pages.
#pragma once

#include <bit>
#include <cstdint>

#include "libgob/base/ids.h"

namespace gob {

class NodeSet {
 public:
  static constexpr unsigned kBits = 48;

  constexpr NodeSet() = default;
  constexpr explicit NodeSet(std::uint64_t bits) : bits_(bits) {}
  static constexpr NodeSet of(NodeId node) {
    NodeSet set;
    set.add(node);
    return set;
  }

  constexpr void add(NodeId node) { bits_ |= bit(node); }
  constexpr void remove(NodeId node) { bits_ &= ~bit(node); }
  // True if the node may hold a copy; certain when the cluster has at most kBits nodes.
  [[nodiscard]] constexpr bool has(NodeId node) const { return (bits_ & bit(node)) != 0; }
  [[nodiscard]] constexpr bool empty() const { return bits_ == 0; }
  [[nodiscard]] constexpr std::uint64_t bits() const { return bits_; }
  friend constexpr auto operator<=>(NodeSet, NodeSet) = default;

 private:
  static constexpr std::uint64_t bit(NodeId node) {
    return std::uint64_t{1} << (node.value() % kBits);
  }
  std::uint64_t bits_ = 0;
};

}  // namespace gob
