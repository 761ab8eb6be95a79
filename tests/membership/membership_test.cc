// What membership promises, one scenario each. Times are those of the simulated clock.
#include "libgob/membership/membership.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>

#include "tests/membership/membership_sim.h"

namespace gob::test {
namespace {

constexpr TimeMs kSettled = 1500;
constexpr TimeMs kFormTimeout = 2000;
constexpr TimeMs kFenceTimeout = 5000;

std::vector<NodeId> nodes(std::initializer_list<std::uint16_t> ids) {
  std::vector<NodeId> all;
  for (const std::uint16_t id : ids) all.push_back(NodeId{id});
  return all;
}

class MembershipTest : public ::testing::TestWithParam<std::uint64_t> {
 protected:
  explicit MembershipTest(std::size_t count = 3)
      : sim({.nodes = count, .seed = GetParam()}), count_(count) {}
  ~MembershipTest() override {
    EXPECT_EQ(sim.problem(), "");
    if (HasFailure()) std::cout << "what happened:" << sim.history() << "\n";
  }

  void start_all() {
    for (std::size_t i = 0; i < count_; ++i) sim.start(NodeId{static_cast<std::uint16_t>(i)});
    sim.run_for(kSettled);
  }
  const View& view(std::uint16_t node) { return sim.machine(NodeId{node})->record()->view; }

  MembershipSim sim;

 private:
  std::size_t count_;
};

class FiveNodes : public MembershipTest {
 protected:
  FiveNodes() : MembershipTest(5) {}
};

class TwoNodes : public MembershipTest {
 protected:
  TwoNodes() : MembershipTest(2) {}
};

TEST_P(MembershipTest, FirstViewFormsAtOnceWhenAllAreThere) {
  start_all();
  EXPECT_TRUE(sim.one_view(nodes({0, 1, 2})));
  EXPECT_TRUE(view(0).losses.empty());
}

TEST_P(MembershipTest, AMajorityFormsTheFirstViewAfterATime) {
  sim.start(NodeId{1});
  sim.start(NodeId{2});
  sim.run_for(kFormTimeout / 2);
  EXPECT_EQ(sim.machine(NodeId{1})->record(), nullptr);
  EXPECT_NE(sim.machine(NodeId{1})->waiting_for().find("not connected to node 0"),
            std::string::npos);
  sim.run_for(kFormTimeout);
  EXPECT_TRUE(sim.one_view(nodes({1, 2})));
}

TEST_P(MembershipTest, AMinorityWaitsForOthers) {
  sim.start(NodeId{0});
  sim.run_for(10 * kFormTimeout);
  ASSERT_TRUE(sim.alive(NodeId{0}));
  EXPECT_EQ(sim.machine(NodeId{0})->record(), nullptr);
}

TEST_P(MembershipTest, ALateNodeJoinsWithoutLoss) {
  sim.start(NodeId{0});
  sim.start(NodeId{1});
  sim.run_for(2 * kFormTimeout);
  ASSERT_TRUE(sim.one_view(nodes({0, 1})));
  sim.start(NodeId{2});
  sim.run_for(kSettled);
  EXPECT_TRUE(sim.one_view(nodes({0, 1, 2})));
  EXPECT_TRUE(view(2).losses.empty());
}

TEST_P(MembershipTest, ADeadMemberIsOutAndItsLossRecorded) {
  start_all();
  sim.crash(NodeId{0}, true);
  sim.run_for(kSettled);
  ASSERT_TRUE(sim.one_view(nodes({1, 2})));
  ASSERT_EQ(view(1).losses.size(), 1u);
  EXPECT_EQ(view(1).losses[0].dead, nodes({0}));
  EXPECT_EQ(view(1).losses[0].members, nodes({0, 1, 2}));
  EXPECT_EQ(view(1).losses[0].epoch, view(1).epoch);
}

TEST_P(MembershipTest, ARestartedNodeJoinsAnewAndLearnsOfTheLoss) {
  start_all();
  sim.crash(NodeId{1}, true);
  sim.start(NodeId{1});  // before the others have noticed
  sim.run_for(2 * kSettled);
  ASSERT_TRUE(sim.one_view(nodes({0, 1, 2})));
  ASSERT_EQ(view(1).losses.size(), 1u);
  EXPECT_EQ(view(1).losses[0].dead, nodes({1}));
}

TEST_P(MembershipTest, ALeaverGoesWithoutLoss) {
  start_all();
  sim.leave(NodeId{0});
  sim.run_for(kSettled);
  EXPECT_EQ(sim.ending(NodeId{0}), "left");
  ASSERT_TRUE(sim.one_view(nodes({1, 2})));
  EXPECT_TRUE(view(1).losses.empty());
  EXPECT_EQ(view(1).departing, nodes({0}));
  sim.start(NodeId{0});
  sim.run_for(kSettled);
  EXPECT_TRUE(sim.one_view(nodes({0, 1, 2})));
}

TEST_P(MembershipTest, AllMayLeaveAtOnce) {
  start_all();
  for (const NodeId i : nodes({0, 1, 2})) sim.leave(i);
  sim.run_for(kSettled);
  for (const NodeId i : nodes({0, 1, 2})) EXPECT_EQ(sim.ending(i), "left");
}

TEST_P(MembershipTest, ANodeCutOffStopsAndTheOthersGoOn) {
  start_all();
  sim.cut(NodeId{0}, NodeId{1});
  sim.cut(NodeId{0}, NodeId{2});
  sim.run_for(kSettled);
  EXPECT_TRUE(sim.one_view(nodes({1, 2})));
  EXPECT_TRUE(sim.alive(NodeId{0}));
  sim.run_for(kFenceTimeout);
  EXPECT_NE(sim.ending(NodeId{0}).find("fenced"), std::string::npos);
  EXPECT_NE(sim.ending(NodeId{0}).find("cut off"), std::string::npos);
}

TEST_P(MembershipTest, ANodeCutOffIsToldWhenItIsBack) {
  start_all();
  sim.cut(NodeId{0}, NodeId{1});
  sim.cut(NodeId{0}, NodeId{2});
  sim.run_for(kSettled);
  sim.heal(NodeId{0}, NodeId{1});
  sim.run_for(kSettled);
  EXPECT_NE(sim.ending(NodeId{0}).find("gone on"), std::string::npos);
}

// It is the only other member of the majority, and its links are open: short of processors, not gone.
TEST_P(MembershipTest, AMemberThatStandsStillIsWaitedFor) {
  start_all();
  sim.stall(NodeId{1}, 2 * kFenceTimeout);
  sim.crash(NodeId{2}, false);
  sim.run_for(2 * kFenceTimeout - kSettled);
  EXPECT_TRUE(sim.alive(NodeId{0})) << sim.ending(NodeId{0});
  sim.run_for(2 * kSettled);
  EXPECT_TRUE(sim.one_view(nodes({0, 1})));
}

// 1 and 2 can't talk: one of them has to go, though both reach 0.
TEST_P(MembershipTest, MembersAllReachEachOther) {
  start_all();
  sim.cut(NodeId{1}, NodeId{2});
  sim.run_for(kSettled);
  ASSERT_TRUE(sim.alive(NodeId{0}));
  EXPECT_EQ(view(0).members.size(), 2u);
  EXPECT_NE(sim.alive(NodeId{1}), sim.alive(NodeId{2}));
}

TEST_P(TwoNodes, TheSurvivorOfAProvenDeathGoesOnWhoeverItIs) {
  for (const NodeId dead : nodes({0, 1})) {
    start_all();
    sim.crash(dead, true);
    sim.run_for(kSettled);
    ASSERT_TRUE(sim.one_view({dead == NodeId{0} ? NodeId{1} : NodeId{0}}));
  }
}

TEST_P(TwoNodes, OfACutPairOnlyTheLowerGoesOn) {
  start_all();
  sim.cut(NodeId{0}, NodeId{1});
  sim.run_for(kSettled + kFenceTimeout);
  EXPECT_TRUE(sim.one_view(nodes({0})));
  EXPECT_NE(sim.ending(NodeId{1}).find("fenced"), std::string::npos);
}

// A silent link, then proof of death: the other may have gone on alone before it died, and what it
// wrote is gone. The survivor must not answer with older bytes.
TEST_P(TwoNodes, DeathAfterSilenceIsNoReasonToGoOn) {
  start_all();
  sim.cut(NodeId{0}, NodeId{1});
  sim.run_for(kSettled);
  ASSERT_TRUE(sim.one_view(nodes({0})));
  sim.crash(NodeId{0}, true);
  sim.heal(NodeId{0}, NodeId{1});
  sim.run_for(kFenceTimeout);
  EXPECT_NE(sim.ending(NodeId{1}).find("fenced"), std::string::npos);
}

// The same with more: those that went on without it are dead to the last.
TEST_P(MembershipTest, DeathOfAllAfterSilenceIsNoReasonToGoOn) {
  start_all();
  for (const NodeId i : nodes({0, 1})) sim.cut(i, NodeId{2});
  sim.run_for(kSettled);
  ASSERT_TRUE(sim.one_view(nodes({0, 1})));
  for (const NodeId i : nodes({0, 1})) sim.crash(i, true);
  for (const NodeId i : nodes({0, 1})) sim.heal(i, NodeId{2});
  sim.run_for(kFenceTimeout);
  EXPECT_NE(sim.ending(NodeId{2}).find("fenced"), std::string::npos);
}

TEST_P(FiveNodes, TheSmallerHalfOfASplitStops) {
  start_all();
  for (const NodeId a : nodes({0, 1}))
    for (const NodeId b : nodes({2, 3, 4})) sim.cut(a, b);
  sim.run_for(kSettled + kFenceTimeout);
  EXPECT_TRUE(sim.one_view(nodes({2, 3, 4})));
  for (const NodeId i : nodes({0, 1})) EXPECT_NE(sim.ending(i).find("fenced"), std::string::npos);
}

TEST_P(FiveNodes, ProposerAfterProposerMayDie) {
  start_all();
  for (const NodeId i : nodes({0, 1, 2})) {
    sim.crash(i, true);
    sim.run_for(60);
  }
  sim.run_for(2 * kSettled);
  EXPECT_TRUE(sim.one_view(nodes({3, 4})));
}

TEST_P(FiveNodes, ALeaverThatDiesBeforeItsReportsAreInIsALoss) {
  start_all();
  sim.leave(NodeId{4});
  sim.run_for(70);
  sim.crash(NodeId{4}, true);
  sim.run_for(2 * kSettled);
  ASSERT_TRUE(sim.one_view(nodes({0, 1, 2, 3})));
  const View& now = view(0);
  const bool was_out_before = now.losses.empty();  // it had left in time
  if (was_out_before) return;
  EXPECT_EQ(now.losses[0].dead, nodes({4}));
  EXPECT_EQ(now.losses[0].members, nodes({0, 1, 2, 3, 4}));
}

INSTANTIATE_TEST_SUITE_P(Seeds, MembershipTest, ::testing::Range<std::uint64_t>(1, 21));
INSTANTIATE_TEST_SUITE_P(Seeds, FiveNodes, ::testing::Range<std::uint64_t>(1, 21));
INSTANTIATE_TEST_SUITE_P(Seeds, TwoNodes, ::testing::Range<std::uint64_t>(1, 21));

// The machine alone.

class OneNode : public ::testing::Test {
 protected:
  OneNode() : machine(config(), hooks()) {}
  static MembershipConfig config() {
    MembershipConfig config;
    config.self = NodeId{0};
    config.incarnation = 5;
    config.nodes = 3;
    return config;
  }
  static MembershipHooks hooks() {
    return {[] { return std::string("table"); },
            [](const std::vector<std::string>& all) { return all.front(); }};
  }
  membership::Actions step(const membership::Event& event, TimeMs now = 1000) {
    membership::Actions out;
    machine.step(event, now, out);
    return out;
  }

  Membership machine;
};

TEST_F(OneNode, WakesForNothingButTheFormTimeout) {
  step(membership::Tick{}, 1000);
  EXPECT_EQ(machine.next_wakeup(), 6000u);
  // Alone it can do nothing then: only a peer changes that.
  step(membership::Tick{}, 6000);
  EXPECT_EQ(machine.next_wakeup(), std::nullopt);
}

TEST_F(OneNode, WhatNoPeerCouldMeanIsIgnored) {
  EXPECT_TRUE(step(membership::PeerUp{NodeId{9}, 1}).empty());
  EXPECT_TRUE(step(membership::PeerUp{NodeId{0}, 1}).empty());
  EXPECT_TRUE(step(membership::PeerUp{NodeId{1}, 0}).empty());
  EXPECT_TRUE(step(membership::PeerDown{NodeId{9}, LinkEnd::kClosed}).empty());
  EXPECT_TRUE(
      step(membership::Deliver{NodeId{1}, membership::Prepare{make_ballot(1, NodeId{1}), {}}})
          .empty());  // its link is not up
}

TEST_F(OneNode, AnInstallThatDoesNotNameThisProcessIsIgnored) {
  step(membership::PeerUp{NodeId{1}, 7});
  Proposal proposal;
  proposal.ballot = make_ballot(1, NodeId{1});
  proposal.record.view.epoch = Epoch{proposal.ballot};
  proposal.record.view.members = {NodeId{0}, NodeId{1}};
  proposal.record.incarnations = {4, 7};  // an earlier process of node 0
  proposal.record.cluster = 7;
  proposal.record.index = 1;
  step(membership::Deliver{NodeId{1}, membership::Install{proposal}});
  EXPECT_EQ(machine.record(), nullptr);
  proposal.record.incarnations = {5, 7};
  step(membership::Deliver{NodeId{1}, membership::Install{proposal}});
  ASSERT_NE(machine.record(), nullptr);
  EXPECT_EQ(machine.record()->view, proposal.record.view);
}

TEST_F(OneNode, AnOlderBallotIsRefused) {
  step(membership::PeerUp{NodeId{1}, 7});
  step(membership::PeerUp{NodeId{2}, 8});
  const auto first =
      step(membership::Deliver{NodeId{2}, membership::Prepare{make_ballot(4, NodeId{2}), {}}});
  const auto sent = [](const membership::Actions& actions) {
    return std::get_if<membership::Send>(&actions.front());
  };
  ASSERT_NE(sent(first), nullptr);
  ASSERT_TRUE(std::holds_alternative<membership::Promise>(sent(first)->message));
  EXPECT_EQ(std::get<membership::Promise>(sent(first)->message).blob, "table");
  const auto second =
      step(membership::Deliver{NodeId{1}, membership::Prepare{make_ballot(4, NodeId{1}), {}}});
  ASSERT_NE(sent(second), nullptr);
  ASSERT_TRUE(std::holds_alternative<membership::Nack>(sent(second)->message));
  EXPECT_EQ(std::get<membership::Nack>(sent(second)->message).promised, make_ballot(4, NodeId{2}));
}

}  // namespace
}  // namespace gob::test
