// NodeSet: exact for 48 nodes, coarse beyond, and the identifiers it is made for.
#include "libgob/base/node_set.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace gob {
namespace {

NodeId node(unsigned n) { return NodeId{static_cast<std::uint16_t>(n)}; }

TEST(NodeSet, IsExactForFortyEightNodes) {
  for (unsigned in = 0; in < NodeSet::kBits; ++in) {
    const NodeSet set = NodeSet::of(node(in));
    for (unsigned n = 0; n < NodeSet::kBits; ++n) EXPECT_EQ(set.has(node(n)), n == in);
  }
}

TEST(NodeSet, AddsAndRemoves) {
  NodeSet set;
  EXPECT_TRUE(set.empty());
  set.add(node(3));
  set.add(node(47));
  set.remove(node(3));
  EXPECT_FALSE(set.has(node(3)));
  EXPECT_EQ(set, NodeSet::of(node(47)));
  set.remove(node(47));
  EXPECT_TRUE(set.empty());
}

TEST(NodeSet, BeyondFortyEightNeverMissesAHolder) {
  for (unsigned n = 0; n < kMaxNodes; ++n) {
    const NodeSet set = NodeSet::of(node(n));
    EXPECT_TRUE(set.has(node(n)));
    EXPECT_TRUE(set.has(node(n + NodeSet::kBits))) << "a coarse bit stands for every such node";
    EXPECT_FALSE(set.has(node(n + 1)));
  }
}

TEST(NodeSet, FitsTheBitsOfADirectoryEntry) {
  NodeSet set;
  for (unsigned n = 0; n < kMaxNodes; ++n) set.add(node(n));
  EXPECT_EQ(set.bits() >> NodeSet::kBits, 0u);
  EXPECT_EQ(NodeSet{set.bits()}, set);
}

TEST(NodeId, NoNodeIsNoNodeOfAnyCluster) {
  EXPECT_GE(kNoNode.value(), kMaxNodes);
  EXPECT_LT(kNoNode.value(), 1u << 12) << "a directory entry keeps 12 bits";
}

TEST(PageKey, PacksAndUnpacksContainerAndPage) {
  const PageId id{ContainerId{kMaxContainerId}, PageIndex{kMaxPages - 1}};
  EXPECT_EQ(page_of(key_of(id)), id);
  const PageId first{ContainerId{1}, PageIndex{0}};
  EXPECT_EQ(page_of(key_of(first)), first);
}

}  // namespace
}  // namespace gob
