// Peers that are silent although their links are up.
#include "libgob/runtime/pulse.h"

#include <gtest/gtest.h>

namespace gob {
namespace {

constexpr NodeId kOne{1};
constexpr NodeId kTwo{2};
using Nodes = std::vector<NodeId>;

TEST(Pulse, WantsNothingWithoutPeers) {
  Pulse pulse(1000);
  EXPECT_FALSE(pulse.next_wakeup());
  EXPECT_FALSE(pulse.tick(5000));
}

TEST(Pulse, AsksForAWordSeveralTimesWithinTheLimit) {
  Pulse pulse(1000);
  pulse.up(kOne, 100);
  EXPECT_EQ(pulse.next_wakeup(), 350);
  EXPECT_FALSE(pulse.tick(349));
  EXPECT_EQ(pulse.tick(350), Nodes{});
  EXPECT_EQ(pulse.next_wakeup(), 600);
}

TEST(Pulse, TellsOfAPeerThatSaysNothing) {
  Pulse pulse(1000);
  pulse.up(kOne, 0);
  pulse.up(kTwo, 0);
  for (std::uint64_t now = 250; now <= 1000; now += 250) {
    EXPECT_EQ(pulse.tick(now), Nodes{}) << now;
    pulse.heard(kTwo, now);
  }
  EXPECT_EQ(pulse.tick(1250), Nodes{kOne});
  pulse.down(kOne);
  EXPECT_EQ(pulse.tick(1500), Nodes{});
}

// The node was stopped itself: what its peers said in that time lies in its sockets.
TEST(Pulse, DoesNotCountTheTimeInWhichThisNodeDidNotRun) {
  Pulse pulse(1000);
  pulse.up(kOne, 0);
  EXPECT_EQ(pulse.tick(250), Nodes{});
  EXPECT_EQ(pulse.tick(60'500), Nodes{});
  // From here on as before: silent for 500, then for more than the limit.
  EXPECT_EQ(pulse.tick(60'750), Nodes{});
  EXPECT_EQ(pulse.tick(61'000), Nodes{});
  EXPECT_EQ(pulse.tick(61'250), Nodes{kOne});
}

TEST(Pulse, OfAPeerThatComesAgainBeginsAnew) {
  Pulse pulse(1000);
  pulse.up(kOne, 0);
  pulse.down(kOne);
  EXPECT_FALSE(pulse.next_wakeup());
  pulse.up(kOne, 5000);
  EXPECT_EQ(pulse.tick(5250), Nodes{});
}

// A peer counts from this node's last word on, so while words leave in time it cannot have.
TEST(Pulse, ANodeThatSpeaksIsNotPutOut) {
  Pulse pulse(1000);
  pulse.up(kOne, 0);
  for (std::uint64_t now = 250; now <= 5000; now += 250) {
    EXPECT_FALSE(pulse.may_be_put_out(kOne, now)) << now;
    static_cast<void>(pulse.tick(now));
  }
  // Nor a little late, twice.
  EXPECT_FALSE(pulse.may_be_put_out(kOne, 5400));
  static_cast<void>(pulse.tick(5400));
  EXPECT_FALSE(pulse.may_be_put_out(kOne, 5900));
}

TEST(Pulse, ANodeThatStoodStillMayBePutOut) {
  Pulse pulse(1000);
  pulse.up(kOne, 0);
  static_cast<void>(pulse.tick(250));
  static_cast<void>(pulse.tick(500));
  EXPECT_TRUE(pulse.may_be_put_out(kOne, 60'000)) << "the end of the link is seen at once";
  static_cast<void>(pulse.tick(60'000));
  EXPECT_TRUE(pulse.may_be_put_out(kOne, 60'100)) << "it lay behind much else";
  static_cast<void>(pulse.tick(60'250));
  EXPECT_TRUE(pulse.may_be_put_out(kOne, 60'300)) << "behind so much that words left meanwhile";
  pulse.up(kTwo, 60'400);
  EXPECT_FALSE(pulse.may_be_put_out(kTwo, 60'450)) << "it came after that";
  for (std::uint64_t now = 60'500; now <= 61'000; now += 250) static_cast<void>(pulse.tick(now));
  EXPECT_FALSE(pulse.may_be_put_out(kOne, 61'000)) << "the link outlived the limit";
}

TEST(Pulse, OnlyLinksThatWereUpMeanwhileAreInDoubt) {
  Pulse pulse(1000);
  pulse.up(kOne, 0);
  static_cast<void>(pulse.tick(250));
  pulse.up(kTwo, 60'000);
  EXPECT_TRUE(pulse.may_be_put_out(kOne, 60'001));
  EXPECT_FALSE(pulse.may_be_put_out(kTwo, 60'001));
  pulse.down(kOne);
  pulse.down(kTwo);
  EXPECT_FALSE(pulse.may_be_put_out(kOne, 60'002)) << "not up";
  pulse.up(kOne, 90'000);
  EXPECT_FALSE(pulse.may_be_put_out(kOne, 90'001));
}

}  // namespace
}  // namespace gob
