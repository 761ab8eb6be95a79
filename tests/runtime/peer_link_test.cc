// A peer is up when all its channels are; what it says before is not lost.
#include "libgob/runtime/peer_link.h"

#include <gtest/gtest.h>

namespace gob {
namespace {

constexpr unsigned kShard = 0;
constexpr std::size_t kChannels = 2;

MembershipMessage says(std::uint64_t epoch) {
  membership::Status status;
  status.serving = Epoch{epoch};
  return status;
}

TEST(PeerLink, IsUpWithItsLastChannelAndDownWithTheFirst) {
  PeerLink link;
  EXPECT_FALSE(link.channel_up(kControlChannel, 7, kChannels));
  EXPECT_FALSE(link.is_up());
  EXPECT_TRUE(link.channel_up(kShard, 7, kChannels));
  EXPECT_TRUE(link.is_up());
  EXPECT_TRUE(link.channel_down(kShard, "closed"));
  EXPECT_FALSE(link.is_up());
  EXPECT_EQ(link.last_down(), "closed");
  EXPECT_FALSE(link.channel_down(kControlChannel, "closed, too"));
  EXPECT_FALSE(link.has_channels());
}

TEST(PeerLink, ChannelsOfTwoProcessesAreNoPeer) {
  PeerLink link;
  EXPECT_FALSE(link.channel_up(kShard, 7, kChannels));
  EXPECT_FALSE(link.channel_up(kControlChannel, 8, kChannels));
  EXPECT_TRUE(link.channel_up(kShard, 8, kChannels));
}

// A node that restarts says once that it is linked to all; who is slower must not miss it.
TEST(PeerLink, WhatThePeerSaysBeforeItIsUpIsKeptInOrder) {
  PeerLink link;
  ASSERT_FALSE(link.channel_up(kControlChannel, 7, kChannels));
  EXPECT_TRUE(link.keep(says(1)));
  EXPECT_TRUE(link.keep(says(2)));
  ASSERT_TRUE(link.channel_up(kShard, 7, kChannels));
  EXPECT_EQ(link.take_early(), (std::vector<MembershipMessage>{says(1), says(2)}));
  EXPECT_TRUE(link.take_early().empty());
}

TEST(PeerLink, WordsOfALinkThatBrokeAreForgotten) {
  PeerLink link;
  ASSERT_FALSE(link.channel_up(kControlChannel, 7, kChannels));
  EXPECT_TRUE(link.keep(says(1)));
  EXPECT_FALSE(link.channel_down(kControlChannel, "closed"));
  ASSERT_FALSE(link.channel_up(kControlChannel, 8, kChannels));
  EXPECT_TRUE(link.keep(says(2)));
  // News of the old link's shard channel comes late, and concerns the old link only.
  EXPECT_FALSE(link.channel_down(kShard, "closed"));
  ASSERT_TRUE(link.channel_up(kShard, 8, kChannels));
  EXPECT_EQ(link.take_early(), std::vector<MembershipMessage>{says(2)});
}

TEST(PeerLink, NotMoreThanSoMuchIsKept) {
  PeerLink link;
  for (std::size_t i = 0; i < PeerLink::kMaxEarly; ++i) ASSERT_TRUE(link.keep(says(i)));
  EXPECT_FALSE(link.keep(says(0)));
  EXPECT_EQ(link.take_early().size(), PeerLink::kMaxEarly);
}

}  // namespace
}  // namespace gob
