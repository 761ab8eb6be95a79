// View: the manager of every page is a pure function of the members.
#include "libgob/protocol/view.h"

#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "tests/protocol/core_driver.h"

namespace gob::test {
namespace {

TEST(View, NeighbouringStripesGoRoundTheMembers) {
  const View view = view_of(1, 5);
  std::map<NodeId, unsigned> stripes;
  for (std::uint64_t stripe = 0; stripe < 500; ++stripe) {
    ++stripes[view.manager(kContainer, stripe)];
    EXPECT_NE(view.manager(kContainer, stripe), view.manager(kContainer, stripe + 1));
  }
  for (NodeId member : view.members) EXPECT_EQ(stripes[member], 100u);
}

TEST(View, ContainersBeginAtDifferentMembers) {
  const View view = view_of(1, 7);
  std::map<NodeId, unsigned> firsts;
  for (std::uint32_t c = 1; c <= 700; ++c) ++firsts[view.manager(ContainerId{c}, 0)];
  for (NodeId member : view.members) {
    EXPECT_GT(firsts[member], 50u);
    EXPECT_LT(firsts[member], 150u);
  }
}

TEST(View, OnlyMembersManage) {
  const View view = view_of(2, 6, {1, 4});
  for (std::uint64_t stripe = 0; stripe < 100; ++stripe) {
    EXPECT_TRUE(view.contains(view.manager(kContainer, stripe)));
    EXPECT_NE(view.manager(kContainer, stripe), node(1));
    EXPECT_NE(view.manager(kContainer, stripe), node(4));
  }
}

TEST(View, KnowsItsMembersAndWhoDeparts) {
  View view = view_of(3, 4, {2});
  view.departing = {node(7)};
  EXPECT_TRUE(view.contains(node(3)));
  EXPECT_FALSE(view.contains(node(2)));
  EXPECT_TRUE(view.departs(node(7)));
  EXPECT_FALSE(view.departs(node(3)));
}

TEST(View, BlamesTheDeadManagerForContainersOlderThanTheLoss) {
  const View view = view_of(5, 4, {3});
  const View before = view_of(4, 4);
  for (std::uint64_t stripe = 0; stripe < 40; ++stripe) {
    const bool was_managed_by_3 = before.manager(kContainer, stripe) == node(3);
    EXPECT_EQ(view.lost_manager(kContainer, Epoch{4}, stripe),
              was_managed_by_3 ? node(3) : kNoNode);
    EXPECT_EQ(view.lost_manager(kContainer, Epoch{5}, stripe), kNoNode)
        << "a container made in the view after the loss";
  }
}

TEST(View, RemembersEveryLoss) {
  View view = view_of(5, 4, {3});
  view.members = {node(0), node(1)};
  view.losses.push_back({Epoch{6}, {node(0), node(1), node(2)}, {node(2)}});
  view.epoch = Epoch{6};
  bool blames_3 = false;
  bool blames_2 = false;
  for (std::uint64_t stripe = 0; stripe < 40; ++stripe) {
    const NodeId blamed = view.lost_manager(kContainer, Epoch{1}, stripe);
    blames_3 |= blamed == node(3);
    blames_2 |= blamed == node(2);
    // A container made between the two losses can only have lost the second time.
    EXPECT_NE(view.lost_manager(kContainer, Epoch{5}, stripe), node(3));
  }
  EXPECT_TRUE(blames_3);
  EXPECT_TRUE(blames_2);
}

}  // namespace
}  // namespace gob::test
