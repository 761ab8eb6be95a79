// Leases on the size of files: at the home (ChangeGate) and on the nodes (SizeLeases).
#include <gtest/gtest.h>

#include <chrono>

#include "libgob/file/change_gate.h"
#include "libgob/file/size_leases.h"

namespace gob::file {
namespace {

using namespace std::chrono_literals;

const RemoteFile kFile{NodeId{0}, 1, 7};

TEST(SizeLeases, AnAnswerIsGivenUnderTheLeaseItWasCutBy) {
  SizeLeases leases(1h);
  EXPECT_FALSE(leases.find(kFile));
  leases.grant(kFile, {3, 100});
  ASSERT_TRUE(leases.find(kFile));
  EXPECT_EQ(leases.find(kFile)->size, 100u);
  bool given = false;
  EXPECT_TRUE(leases.answer_under(kFile, 3, [&] { given = true; }));
  EXPECT_TRUE(given);
  EXPECT_TRUE(leases.revoke(kFile, 4));
  EXPECT_FALSE(leases.find(kFile));
  EXPECT_FALSE(leases.answer_under(kFile, 3, [] { FAIL(); }));
  leases.grant(kFile, {5, 200});
  EXPECT_FALSE(leases.answer_under(kFile, 3, [] { FAIL(); }));
  EXPECT_TRUE(leases.answer_under(kFile, 5, [] {}));
}

TEST(SizeLeases, ANewerLeaseDoesNotEndAnOlderOne) {
  SizeLeases leases(1h);
  leases.grant(kFile, {3, 100});
  leases.grant(kFile, {4, 100});
  EXPECT_TRUE(leases.answer_under(kFile, 3, [] {}));
  EXPECT_TRUE(leases.revoke(kFile, 3));
  EXPECT_FALSE(leases.answer_under(kFile, 3, [] {}));
  EXPECT_TRUE(leases.answer_under(kFile, 4, [] {}));
}

TEST(SizeLeases, AGrantThatComesAfterItsRevocationIsVoid) {
  SizeLeases leases(1h);
  EXPECT_TRUE(leases.revoke(kFile, 4));
  leases.grant(kFile, {3, 100});
  EXPECT_FALSE(leases.find(kFile));
  leases.grant(kFile, {0, 100});  // none was given
  EXPECT_FALSE(leases.find(kFile));
}

TEST(SizeLeases, AnOlderGrantDoesNotReplaceANewerOne) {
  SizeLeases leases(1h);
  leases.grant(kFile, {5, 200});
  leases.grant(kFile, {3, 100});
  EXPECT_EQ(leases.find(kFile)->size, 200u);
  leases.forget(kFile);
  EXPECT_FALSE(leases.find(kFile));
}

TEST(SizeLeases, ALeaseThatAReadHasWaitedForEndsWithTheRead) {
  SizeLeases leases(1h);
  EXPECT_TRUE(leases.grant_and_hold(kFile, {3, 100}));
  EXPECT_TRUE(leases.grant_and_hold(kFile, {3, 100}));
  EXPECT_FALSE(leases.revoke(kFile, 4));
  EXPECT_FALSE(leases.find(kFile));  // it is for nobody else
  leases.grant(kFile, {3, 100});
  EXPECT_FALSE(leases.find(kFile));
  EXPECT_FALSE(leases.grant_and_hold(kFile, {3, 100}));
  EXPECT_TRUE(leases.answer_under(kFile, 3, [] {}));
  EXPECT_EQ(leases.let_go(kFile), 0u);
  EXPECT_TRUE(leases.answer_under(kFile, 3, [] {}));
  EXPECT_EQ(leases.let_go(kFile), 4u);
  EXPECT_FALSE(leases.answer_under(kFile, 3, [] { FAIL(); }));
  EXPECT_FALSE(leases.end(kFile, 4));  // its end was told already
  // One that nobody wants back stays.
  EXPECT_TRUE(leases.grant_and_hold(kFile, {5, 100}));
  EXPECT_EQ(leases.let_go(kFile), 0u);
  EXPECT_TRUE(leases.find(kFile));
}

TEST(SizeLeases, AReadThatTakesTooLongHoldsNothing) {
  SizeLeases leases(1h);
  EXPECT_TRUE(leases.grant_and_hold(kFile, {3, 100}));
  EXPECT_FALSE(leases.revoke(kFile, 4));
  EXPECT_TRUE(leases.end(kFile, 4));
  EXPECT_FALSE(leases.answer_under(kFile, 3, [] { FAIL(); }));
  EXPECT_EQ(leases.let_go(kFile), 0u);
  leases.grant(kFile, {5, 200});
  EXPECT_TRUE(leases.find(kFile));
}

TEST(SizeLeases, ALinkThatIsANewOneEndsAllOfItsHome) {
  const RemoteFile other{kFile.home, 2, 8};
  const RemoteFile elsewhere{NodeId{1}, 1, 7};
  SizeLeases leases(1h);
  for (const RemoteFile& file : {kFile, other, elsewhere}) leases.grant(file, {3, 100});
  leases.end_all_of(kFile.home);
  for (const RemoteFile& file : {kFile, other}) {
    EXPECT_FALSE(leases.find(file));
    EXPECT_FALSE(leases.answer_under(file, 3, [] { FAIL(); })) << "of a read that goes on";
    leases.grant(file, {4, 200});
    EXPECT_TRUE(leases.find(file));
  }
  EXPECT_TRUE(leases.find(elsewhere));
}

TEST(SizeLeases, WhatIsRevokedAfterTheKernelForgotTheFileIsRememberedForAWhileOnly) {
  SizeLeases::Clock::time_point now{};
  SizeLeases leases(60s, [&] { return now; });
  const auto file = [](std::uint64_t number) { return RemoteFile{NodeId{0}, 1, number}; };
  for (std::uint64_t number = 1; number <= 100; ++number)
    EXPECT_TRUE(leases.revoke(file(number), 4));
  now += 60s;
  EXPECT_TRUE(leases.revoke(file(1), 6));
  leases.grant(file(2), {3, 100});
  EXPECT_FALSE(leases.find(file(2)));  // it was on its way
  leases.grant(file(3), {5, 100});
  now += 1s;
  EXPECT_TRUE(leases.revoke(file(200), 4));
  EXPECT_EQ(leases.size(), 3u);
  EXPECT_TRUE(leases.find(file(3)));
  leases.grant(file(1), {5, 100});
  EXPECT_FALSE(leases.find(file(1)));
  leases.forget(file(3));
  now += 200s;
  EXPECT_TRUE(leases.revoke(file(200), 5));
  now += 61s;
  EXPECT_TRUE(leases.revoke(file(300), 4));
  EXPECT_LE(leases.size(), 2u);
}

TEST(ChangeGate, AChangeWithoutLeasesIsMadeAtOnce) {
  ChangeGate gate;
  EXPECT_EQ(gate.begin([](std::uint64_t) {}).ready.size(), 1u);
}

TEST(ChangeGate, AChangeWaitsForEveryHolderAndALeaseForTheChange) {
  ChangeGate gate;
  EXPECT_NE(gate.lease(NodeId{1}, nullptr), 0u);
  EXPECT_NE(gate.try_lease(NodeId{2}), 0u);
  std::uint64_t made = 0;
  const auto begun = gate.begin([&](std::uint64_t number) { made = number; });
  EXPECT_EQ(begun.ask, (std::set<NodeId>{NodeId{1}, NodeId{2}}));
  std::uint64_t leased = 0;
  EXPECT_EQ(gate.lease(NodeId{3}, [&](std::uint64_t number) { leased = number; }), 0u);
  EXPECT_EQ(gate.try_lease(NodeId{3}), 0u);
  EXPECT_TRUE(gate.acknowledged(NodeId{1}, begun.number).empty());
  EXPECT_TRUE(gate.acknowledged(NodeId{1}, begun.number).empty());
  for (const auto& work : gate.node_gone(NodeId{2})) work();
  EXPECT_EQ(made, begun.number);
  EXPECT_EQ(leased, 0u);
  for (const auto& work : gate.end(begun.number)) work();
  EXPECT_GT(leased, begun.number);
  EXPECT_TRUE(gate.given().ready.empty());
  // The leases of before the change are over: the next one asks for the new one alone.
  EXPECT_EQ(gate.begin([](std::uint64_t) {}).ask, (std::set<NodeId>{NodeId{3}}));
}

// Were it made at once, who reads on the node that has not answered would not see it.
TEST(ChangeGate, AChangeWaitsForHoldersThatWereAskedForAnEarlierOne) {
  ChangeGate gate;
  EXPECT_NE(gate.lease(NodeId{1}, nullptr), 0u);
  std::vector<std::uint64_t> made;
  const auto make = [&](std::uint64_t number) { made.push_back(number); };
  const auto first = gate.begin(make);
  EXPECT_TRUE(first.ready.empty());
  const auto second = gate.begin(make);
  EXPECT_TRUE(second.ready.empty());
  EXPECT_TRUE(second.ask.empty());
  EXPECT_TRUE(gate.acknowledged(NodeId{1}, first.number + 2).empty());
  EXPECT_TRUE(gate.acknowledged(NodeId{2}, first.number).empty());
  for (const auto& work : gate.acknowledged(NodeId{1}, first.number)) work();
  ASSERT_EQ(made.size(), 2u);
  EXPECT_EQ(made[0], first.number);
  std::uint64_t leased = 0;
  EXPECT_EQ(gate.lease(NodeId{1}, [&](std::uint64_t number) { leased = number; }), 0u);
  EXPECT_TRUE(gate.end(made[0]).empty());
  for (const auto& work : gate.end(made[1])) work();
  EXPECT_NE(leased, 0u);
}

// With two writers there is always a change under way.
TEST(ChangeGate, ALeaseWaitsForNoMoreChangesThanThereWere) {
  ChangeGate gate;
  std::vector<std::uint64_t> made;
  const auto make = [&](std::uint64_t number) { made.push_back(number); };
  for (const auto& work : gate.begin(make).ready) work();
  ASSERT_EQ(made.size(), 1u);
  std::uint64_t leased = 0;
  EXPECT_EQ(gate.lease(NodeId{1}, [&](std::uint64_t number) { leased = number; }), 0u);
  for (int i = 0; i < 2; ++i) {
    const auto put_off = gate.begin(make);
    EXPECT_TRUE(put_off.ready.empty());
    EXPECT_TRUE(put_off.ask.empty());
  }
  EXPECT_TRUE(gate.given().ask.empty());  // it is not their turn
  const auto leases = gate.end(made[0]);
  ASSERT_EQ(leases.size(), 1u);
  EXPECT_TRUE(gate.begin(make).ready.empty());  // nor is it before the node is told
  leases[0]();
  EXPECT_NE(leased, 0u);
  // Now they are begun, and ask for that lease once.
  const auto begun = gate.given();
  EXPECT_EQ(begun.ask, (std::set<NodeId>{NodeId{1}}));
  EXPECT_GT(begun.number, leased);
  EXPECT_TRUE(begun.ready.empty());
  const auto ready = gate.acknowledged(NodeId{1}, begun.number);
  EXPECT_EQ(ready.size(), 3u);
  for (const auto& work : ready) work();
  for (const std::uint64_t number : std::vector(made)) EXPECT_TRUE(gate.end(number).empty());
  EXPECT_EQ(gate.begin(make).ready.size(), 1u);
}

// Whose lease was waited for is gone: nobody waits for it any more.
TEST(ChangeGate, ChangesThatWaitForALeaseOfANodeThatDiesBeginWithoutIt) {
  ChangeGate gate;
  std::vector<std::uint64_t> made;
  const auto make = [&](std::uint64_t number) { made.push_back(number); };
  for (const auto& work : gate.begin(make).ready) work();
  EXPECT_EQ(gate.lease(NodeId{1}, [](std::uint64_t) { FAIL(); }), 0u);
  EXPECT_TRUE(gate.begin(make).ready.empty());
  EXPECT_TRUE(gate.node_gone(NodeId{1}).empty());
  EXPECT_TRUE(gate.end(made.at(0)).empty());
  EXPECT_EQ(gate.given().ready.size(), 1u);
}

// Who is told the size: not before all nodes have forgotten what was there.
TEST(ChangeGate, WhoOnlyWaitsForTheEndOfChangesHasNoLease) {
  ChangeGate gate;
  std::vector<std::uint64_t> made;
  const auto make = [&](std::uint64_t number) { made.push_back(number); };
  EXPECT_TRUE(gate.settled(NodeId{1}, nullptr));
  for (const auto& work : gate.begin(make).ready) work();
  bool told = false;
  EXPECT_FALSE(gate.settled(NodeId{1}, [&](std::uint64_t number) { told = number == 0; }));
  EXPECT_TRUE(gate.begin(make).ready.empty());  // it has its turn first
  const auto works = gate.end(made.at(0));
  ASSERT_EQ(works.size(), 1u);
  EXPECT_TRUE(gate.settled(NodeId{2}, nullptr));
  works[0]();
  EXPECT_TRUE(told);
  const auto begun = gate.given();
  EXPECT_TRUE(begun.ask.empty());
  EXPECT_EQ(begun.ready.size(), 1u);
}

TEST(ChangeGate, ALeaseIsNumberedAfterTheChangesBeforeIt) {
  ChangeGate gate;
  std::uint64_t first = 0;
  for (const auto& work : gate.begin([&](std::uint64_t number) { first = number; }).ready) work();
  EXPECT_TRUE(gate.end(first).empty());
  const std::uint64_t lease = gate.lease(NodeId{1}, nullptr);
  EXPECT_GT(lease, first);
  EXPECT_GT(gate.begin([](std::uint64_t) {}).number, lease);
}

}  // namespace
}  // namespace gob::file
