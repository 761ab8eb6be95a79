#include "libgob/membership/view_record.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace gob {
namespace {

Member member(std::uint16_t node) { return {NodeId{node}, std::uint64_t{100} + node}; }
std::vector<Member> members(std::uint16_t count) {
  std::vector<Member> all;
  for (std::uint16_t i = 0; i < count; ++i) all.push_back(member(i));
  return all;
}
std::set<Member> group(std::initializer_list<std::uint16_t> nodes) {
  std::set<Member> set;
  for (const std::uint16_t node : nodes) set.insert(member(node));
  return set;
}

TEST(MayDecide, MajorityOrTheHalfWithTheLowest) {
  EXPECT_TRUE(may_decide(members(3), group({1, 2}), {}));
  EXPECT_FALSE(may_decide(members(3), group({0}), {}));
  EXPECT_TRUE(may_decide(members(4), group({0, 3}), {}));
  EXPECT_FALSE(may_decide(members(4), group({1, 2}), {}));
  EXPECT_TRUE(may_decide(members(2), group({0}), {}));
  EXPECT_FALSE(may_decide(members(2), group({1}), {}));
}

TEST(MayDecide, AllWhoHaveNotFallenDecideHoweverFew) {
  EXPECT_TRUE(may_decide(members(2), group({1}), group({0})));
  EXPECT_TRUE(may_decide(members(5), group({3, 4}), group({0, 1, 2})));
}

// Of five, {0, 1, 4} may have decided something that only 4 still knows: a majority of the living
// is not enough.
TEST(MayDecide, SomeOfThoseWhoHaveNotFallenDoNot) {
  EXPECT_FALSE(may_decide(members(5), group({2, 3}), group({0, 1})));
  EXPECT_TRUE(may_decide(members(5), group({2, 3, 4}), group({0, 1})));
}

TEST(MayDecide, TheDeadAloneDecideNothing) {
  EXPECT_FALSE(may_decide(members(2), {}, group({0, 1})));
}

TEST(MayDecide, ARestartedNodeIsAnotherMember) {
  EXPECT_FALSE(may_decide(members(3), {{NodeId{0}, 7}, {NodeId{1}, 7}}, {}));
}

// Every two groups that may decide at the same time have a member in common.
TEST(MayDecide, AnyTwoGroupsMeet) {
  for (std::uint16_t count = 1; count <= 6; ++count) {
    const auto all = members(count);
    const unsigned sets = 1u << count;
    const auto pick = [&](unsigned bits) {
      std::set<Member> set;
      for (std::uint16_t i = 0; i < count; ++i)
        if ((bits >> i) & 1) set.insert(member(i));
      return set;
    };
    for (unsigned fallen = 0; fallen < sets; ++fallen) {
      for (unsigned a = 0; a < sets; ++a) {
        if ((a & fallen) != 0 || !may_decide(all, pick(a), pick(fallen))) continue;
        for (unsigned b = 0; b < sets; ++b) {
          if ((b & fallen) != 0 || !may_decide(all, pick(b), pick(fallen))) continue;
          ASSERT_NE(a & b, 0u) << count << " members, fallen " << fallen;
        }
      }
    }
  }
}

ViewRecord view_of(std::uint64_t epoch, std::uint16_t count) {
  ViewRecord record;
  record.view.epoch = Epoch{epoch};
  for (std::uint16_t i = 0; i < count; ++i) record.view.members.push_back(NodeId{i});
  return record;
}

TEST(CarryLosses, ADeadMemberIsALoss) {
  const ViewRecord base = view_of(1, 3);
  ViewRecord next = view_of(2, 2);
  carry_losses(base, true, {NodeId{2}}, {}, next);
  ASSERT_EQ(next.view.losses.size(), 1u);
  EXPECT_EQ(next.view.losses[0], (Loss{Epoch{2}, base.view.members, {NodeId{2}}}));
}

TEST(CarryLosses, AGracefulChangeLosesNothing) {
  ViewRecord next = view_of(2, 2);
  carry_losses(view_of(1, 3), true, {}, {}, next);
  EXPECT_TRUE(next.view.losses.empty());
}

// View 2 was not rebuilt everywhere when node 1 died: what it managed in view 1 may be lost with
// it.
TEST(CarryLosses, DeathBeforeTheDirectoryIsHandedOnCountsForTheOlderViewsToo) {
  ViewRecord base = view_of(2, 3);
  base.open_bases = {view_of(1, 4).view.members};
  ViewRecord next = view_of(3, 2);
  carry_losses(base, false, {NodeId{1}}, {}, next);
  ASSERT_EQ(next.view.losses.size(), 2u);
  EXPECT_EQ(next.view.losses[0].members.size(), 4u);
  EXPECT_EQ(next.view.losses[1].members.size(), 3u);
  EXPECT_EQ(next.open_bases.size(), 2u);
  ViewRecord settled = view_of(3, 2);
  carry_losses(base, true, {NodeId{1}}, {}, settled);
  EXPECT_EQ(settled.view.losses.size(), 1u);
  EXPECT_EQ(settled.open_bases.size(), 1u);
}

TEST(CarryLosses, OlderThanEveryContainerIsForgotten) {
  ViewRecord base = view_of(9, 3);
  base.view.losses = {{Epoch{4}, {NodeId{0}}, {NodeId{0}}}, {Epoch{8}, {NodeId{0}}, {NodeId{0}}}};
  ViewRecord next = view_of(10, 3);
  carry_losses(base, true, {}, Epoch{4}, next);
  ASSERT_EQ(next.view.losses.size(), 1u);
  EXPECT_EQ(next.view.losses[0].epoch, Epoch{8});
}

// Without end, deaths become fewer, coarser losses: never zeros for a page that may have been
// written.
TEST(CarryLosses, TooManyBecomeCoarse) {
  ViewRecord record = view_of(1, 3);
  for (std::uint64_t epoch = 2; epoch < 2000; ++epoch) {
    ViewRecord next = view_of(epoch, 3);
    carry_losses(record, epoch % 3 != 0, {NodeId{static_cast<std::uint16_t>(epoch % 3)}}, {}, next);
    ASSERT_LE(next.view.losses.size(), kMaxLosses);
    ASSERT_LE(next.open_bases.size(), kMaxOpenBases);
    ASSERT_TRUE(std::ranges::is_sorted(next.view.losses, {}, &Loss::epoch));
    record = next;
  }
  for (std::uint64_t stripe = 0; stripe < 100; ++stripe)
    EXPECT_NE(record.view.lost_manager(ContainerId{1}, Epoch{1}, stripe), kNoNode);
}

TEST(Describe, NamesEpochAndMembers) { EXPECT_EQ(describe(view_of(7, 3).view), "7 {0, 1, 2}"); }

}  // namespace
}  // namespace gob
