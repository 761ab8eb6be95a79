// Leases on the size of files: at the home (ChangeGate) and on the nodes (SizeLeases).
#include <gtest/gtest.h>

#include "libgob/file/change_gate.h"
#include "libgob/file/size_leases.h"

namespace gob::file {
namespace {

const RemoteFile kFile{NodeId{0}, 1, 7};

TEST(SizeLeases, AnAnswerIsGivenUnderTheLeaseItWasCutBy) {
  SizeLeases leases;
  EXPECT_FALSE(leases.find(kFile));
  leases.grant(kFile, {3, 100});
  ASSERT_TRUE(leases.find(kFile));
  EXPECT_EQ(leases.find(kFile)->size, 100u);
  bool given = false;
  EXPECT_TRUE(leases.answer_under(kFile, 3, [&] { given = true; }));
  EXPECT_TRUE(given);
  leases.revoke(kFile, 4);
  EXPECT_FALSE(leases.find(kFile));
  EXPECT_FALSE(leases.answer_under(kFile, 3, [] { FAIL(); }));
  leases.grant(kFile, {5, 200});
  EXPECT_FALSE(leases.answer_under(kFile, 3, [] { FAIL(); }));
  EXPECT_TRUE(leases.answer_under(kFile, 5, [] {}));
}

TEST(SizeLeases, ANewerLeaseDoesNotEndAnOlderOne) {
  SizeLeases leases;
  leases.grant(kFile, {3, 100});
  leases.grant(kFile, {4, 100});
  EXPECT_TRUE(leases.answer_under(kFile, 3, [] {}));
  leases.revoke(kFile, 3);
  EXPECT_FALSE(leases.answer_under(kFile, 3, [] {}));
  EXPECT_TRUE(leases.answer_under(kFile, 4, [] {}));
}

TEST(SizeLeases, AGrantThatComesAfterItsRevocationIsVoid) {
  SizeLeases leases;
  leases.revoke(kFile, 4);
  leases.grant(kFile, {3, 100});
  EXPECT_FALSE(leases.find(kFile));
  leases.grant(kFile, {0, 100});  // none was given
  EXPECT_FALSE(leases.find(kFile));
}

TEST(SizeLeases, AnOlderGrantDoesNotReplaceANewerOne) {
  SizeLeases leases;
  leases.grant(kFile, {5, 200});
  leases.grant(kFile, {3, 100});
  EXPECT_EQ(leases.find(kFile)->size, 200u);
  leases.forget(kFile);
  EXPECT_FALSE(leases.find(kFile));
}

TEST(ChangeGate, AChangeWithoutLeasesIsMadeAtOnce) {
  ChangeGate gate;
  EXPECT_TRUE(gate.begin([](std::uint64_t) {}).ready);
}

TEST(ChangeGate, AChangeWaitsForEveryHolderAndALeaseForTheChange) {
  ChangeGate gate;
  EXPECT_NE(gate.lease(NodeId{1}, nullptr), 0u);
  EXPECT_NE(gate.try_lease(NodeId{2}), 0u);
  std::uint64_t made = 0;
  const auto begun = gate.begin([&](std::uint64_t number) { made = number; });
  EXPECT_EQ(begun.ask, (std::set<NodeId>{NodeId{1}, NodeId{2}}));
  bool leased = false;
  EXPECT_EQ(gate.lease(NodeId{3}, [&] { leased = true; }), 0u);
  EXPECT_EQ(gate.try_lease(NodeId{3}), 0u);
  EXPECT_TRUE(gate.acknowledged(NodeId{1}, begun.number).empty());
  EXPECT_TRUE(gate.acknowledged(NodeId{1}, begun.number).empty());
  for (const auto& work : gate.node_gone(NodeId{2})) work();
  EXPECT_EQ(made, begun.number);
  EXPECT_FALSE(leased);
  for (const auto& work : gate.end(begun.number)) work();
  EXPECT_TRUE(leased);
  // Those leases are over: the next change asks nobody.
  EXPECT_TRUE(gate.begin([](std::uint64_t) {}).ready);
}

// Were it made at once, who reads on the node that has not answered would not see it.
TEST(ChangeGate, AChangeWaitsForHoldersThatWereAskedForAnEarlierOne) {
  ChangeGate gate;
  EXPECT_NE(gate.lease(NodeId{1}, nullptr), 0u);
  std::vector<std::uint64_t> made;
  const auto make = [&](std::uint64_t number) { made.push_back(number); };
  const auto first = gate.begin(make);
  EXPECT_FALSE(first.ready);
  const auto second = gate.begin(make);
  EXPECT_FALSE(second.ready);
  EXPECT_TRUE(second.ask.empty());
  EXPECT_TRUE(gate.acknowledged(NodeId{1}, second.number + 1).empty());
  EXPECT_TRUE(gate.acknowledged(NodeId{2}, first.number).empty());
  for (const auto& work : gate.acknowledged(NodeId{1}, first.number)) work();
  EXPECT_EQ(made, (std::vector{first.number, second.number}));
  bool leased = false;
  EXPECT_EQ(gate.lease(NodeId{1}, [&] { leased = true; }), 0u);
  EXPECT_TRUE(gate.end(first.number).empty());
  for (const auto& work : gate.end(second.number)) work();
  EXPECT_TRUE(leased);
}

TEST(ChangeGate, ALeaseIsNumberedAfterTheChangesBeforeIt) {
  ChangeGate gate;
  const auto first = gate.begin([](std::uint64_t) {});
  EXPECT_TRUE(gate.end(first.number).empty());
  const std::uint64_t lease = gate.lease(NodeId{1}, nullptr);
  EXPECT_GT(lease, first.number);
  EXPECT_GT(gate.begin([](std::uint64_t) {}).number, lease);
}

}  // namespace
}  // namespace gob::file
