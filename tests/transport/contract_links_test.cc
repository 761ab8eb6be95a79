// What every transport promises about links: when they come, go, and may come again.
#include <gtest/gtest.h>

#include <thread>

#include "libgob/wire/frame.h"
#include "tests/transport/test_cluster.h"

namespace gob::test {
namespace {

using std::chrono::milliseconds;

class Links : public ::testing::TestWithParam<std::string> {
 protected:
  void start(const ClusterOptions& options) {
    cluster_ = make_cluster(GetParam(), options);
    cluster_->start_all();
    ASSERT_TRUE(cluster_->connect_all());
  }
  TestNode& at(unsigned id) { return (*cluster_)[id]; }
  bool run_until(const std::function<bool()>& done) { return cluster_->run_until(done); }
  bool all_down(unsigned id, unsigned peer) {
    for (const auto& [number, sink] : at(id).sinks) {
      if (sink.is_up(node(peer))) return false;
    }
    return true;
  }
  bool all_up(unsigned id, unsigned peer) {
    for (const auto& [number, sink] : at(id).sinks) {
      if (!sink.is_up(node(peer))) return false;
    }
    return true;
  }

  std::unique_ptr<TestCluster> cluster_;
};

bool peer_closed(DownReason reason) {
  return reason == DownReason::kClosed || reason == DownReason::kReset;
}

TEST_P(Links, ComeUpOnAllChannelsWithTheIncarnation) {
  start({.nodes = 3, .shards = 3});
  for (unsigned id = 0; id < 3; ++id) {
    for (unsigned peer = 0; peer < 3; ++peer) {
      if (id == peer) continue;
      for (const auto& [number, sink] : at(id).sinks) {
        EXPECT_EQ(sink.incarnation(node(peer)), at(peer).transport->incarnation());
      }
      const PeerStatus status = at(id).transport->status(node(peer));
      EXPECT_EQ(status.state, PeerState::kConnected);
      EXPECT_EQ(status.incarnation, at(peer).transport->incarnation());
    }
  }
}

TEST_P(Links, ComeUpWhateverTheOrderOfStarting) {
  cluster_ = make_cluster(GetParam(), {.nodes = 3});
  for (const unsigned id : {2u, 0u, 1u}) {
    cluster_->start(id);
    cluster_->run_for(milliseconds(60));
  }
  EXPECT_TRUE(cluster_->connect_all());
}

TEST_P(Links, AreThereOnEveryShardOnceControlHeardOfThem) {
  cluster_ = make_cluster(GetParam(), {.nodes = 2, .shards = 4});
  cluster_->start(0);
  cluster_->start(1);
  for (std::uint8_t shard = 0; shard < 4; ++shard) cluster_->set_deaf(0, shard, true);
  ASSERT_TRUE(run_until([&] { return at(0).sink(kControlChannel).is_up(node(1)); }));
  for (std::uint8_t shard = 0; shard < 4; ++shard) {
    const auto text = std::to_string(shard);
    EXPECT_TRUE(send_text(at(0).channel(shard), node(1), text).ok()) << text;
    cluster_->set_deaf(0, shard, false);
  }
  EXPECT_TRUE(run_until([&] {
    for (std::uint8_t shard = 0; shard < 4; ++shard) {
      if (at(1).sink(shard).received != 1 || !at(0).sink(shard).is_up(node(1))) return false;
    }
    return true;
  }));
}

TEST_P(Links, GoDownOnAllChannelsWhenThePeerEnds) {
  start({.nodes = 3, .shards = 2});
  cluster_->stop(2);
  ASSERT_TRUE(run_until([&] { return all_down(0, 2) && all_down(1, 2); }));
  for (const unsigned id : {0u, 1u}) {
    for (const auto& [number, sink] : at(id).sinks) {
      ASSERT_EQ(sink.downs.size(), 1u);
      EXPECT_TRUE(peer_closed(sink.downs[0].reason));
    }
    EXPECT_TRUE(
        run_until([&] { return at(id).transport->status(node(2)).state == PeerState::kRefused; }));
    EXPECT_FALSE(send_text(at(id).channel(0), node(2), "too late").ok());
  }
  EXPECT_TRUE(send_text(at(0).channel(0), node(1), "we go on").ok());
  EXPECT_TRUE(run_until([&] { return at(1).sink(0).received == 1; }));
}

TEST_P(Links, DeliverWhatAPeerSaidBeforeItEnded) {
  start({});
  constexpr std::size_t kCount = 200;
  for (std::size_t i = 0; i < kCount; ++i) {
    ASSERT_TRUE(send_text(at(1).channel(0), node(0), std::to_string(i)).ok());
  }
  cluster_->stop(1);
  ASSERT_TRUE(run_until([&] { return all_down(0, 1); }));
  EXPECT_EQ(at(0).sink(0).received, kCount);
}

TEST_P(Links, ComeUpAgainWithANewIncarnation) {
  start({.nodes = 2, .shards = 2});
  for (const unsigned id : {0u, 1u, 0u}) {
    const unsigned other = 1 - id;
    const std::uint64_t before = at(id).transport->incarnation();
    cluster_->stop(id);
    ASSERT_TRUE(run_until([&] { return all_down(other, id); }));
    cluster_->start(id);
    EXPECT_NE(at(id).transport->incarnation(), before);
    ASSERT_TRUE(cluster_->connect_all());
    EXPECT_EQ(at(other).sink(0).incarnation(node(id)), at(id).transport->incarnation());
    const std::size_t received = at(id).sink(1).received;
    ASSERT_TRUE(send_text(at(other).channel(1), node(id), "welcome").ok());
    ASSERT_TRUE(run_until([&] { return at(id).sink(1).received == received + 1; }));
  }
}

TEST_P(Links, ThatBrokeAreNotResumedUnlessAllowed) {
  start({.nodes = 2, .shards = 2});
  at(0).channel(1).drop(node(1), DownReason::kProtocol, "it lied");
  ASSERT_TRUE(run_until([&] { return all_down(0, 1) && all_down(1, 0); }));
  // The other channels may hear of it from the peer first.
  for (const auto& [number, sink] : at(0).sinks) ASSERT_EQ(sink.downs.size(), 1u);
  EXPECT_EQ(at(0).sink(1).downs[0].reason, DownReason::kProtocol);
  EXPECT_EQ(at(0).sink(1).downs[0].detail, "it lied");
  EXPECT_FALSE(send_text(at(0).channel(0), node(1), "anyone?").ok());
  cluster_->run_for(milliseconds(400));
  EXPECT_TRUE(all_down(0, 1));
  EXPECT_TRUE(all_down(1, 0));
  EXPECT_EQ(at(0).transport->status(node(1)).state, PeerState::kConnecting);
  at(0).transport->allow(node(1));
  at(1).transport->allow(node(0));
  ASSERT_TRUE(cluster_->connect_all());
  EXPECT_TRUE(send_text(at(0).channel(0), node(1), "again").ok());
  EXPECT_TRUE(run_until([&] { return at(1).sink(0).received == 1; }));
}

TEST_P(Links, WithTheSameIncarnationAreRefusedAfterARestart) {
  cluster_ = make_cluster(GetParam(), {.nodes = 2});
  cluster_->start(0);
  cluster_->start(1, 77);
  ASSERT_TRUE(cluster_->connect_all());
  cluster_->stop(1);
  ASSERT_TRUE(run_until([&] { return all_down(0, 1); }));
  cluster_->start(1, 77);
  cluster_->run_for(milliseconds(300));
  EXPECT_TRUE(all_down(0, 1));
  cluster_->stop(1);
  cluster_->start(1, 78);
  EXPECT_TRUE(cluster_->connect_all());
}

TEST_P(Links, MayBeDroppedFromInsideACallback) {
  start({.nodes = 3});
  at(0).sink(0).reaction = [&](const Recorder::Message& message) {
    if (message.header == "5") at(0).channel(0).drop(message.from, DownReason::kProtocol, "enough");
  };
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(send_text(at(1).channel(0), node(0), std::to_string(i)).ok());
  }
  ASSERT_TRUE(run_until([&] { return all_down(0, 1) && all_down(1, 0); }));
  EXPECT_EQ(at(0).sink(0).received, 6u);
  EXPECT_TRUE(all_up(0, 2));
}

TEST_P(Links, AreCutByDisconnectFromAnyThread) {
  start({.nodes = 3, .shards = 2});
  std::thread([&] { at(1).transport->disconnect(node(0), "administrator"); }).join();
  ASSERT_TRUE(run_until([&] { return all_down(0, 1) && all_down(1, 0); }));
  for (const auto& [number, sink] : at(1).sinks) ASSERT_EQ(sink.downs.size(), 1u);
  EXPECT_EQ(at(1).sink(0).downs[0].reason, DownReason::kLocal);
  EXPECT_EQ(at(1).sink(0).downs[0].detail, "administrator");
  EXPECT_TRUE(all_up(2, 0));
  EXPECT_TRUE(all_up(2, 1));
}

TEST_P(Links, ToAPeerThatDoesNotListenAreDroppedAtTheBound) {
  constexpr std::size_t kBound = std::size_t{1} << 20;
  start({.nodes = 2, .max_queued_bytes = kBound});
  cluster_->set_deaf(1, 0, true);
  const std::string payload(wire::kMaxPagePayloadBytes, 'x');
  // The kernel's own buffers take some tens of megabytes at most.
  Status status;
  std::size_t sent = 0;
  for (; sent < 1000 && status.ok(); ++sent) {
    status = send_text(at(0).channel(0), node(1), "", payload);
    EXPECT_LE(at(0).channel(0).queued_bytes(node(1)), kBound);
  }
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::kUnavailable);
  cluster_->set_deaf(1, 0, false);
  ASSERT_TRUE(run_until([&] { return all_down(0, 1) && all_down(1, 0); }));
  EXPECT_EQ(at(0).sink(0).downs[0].reason, DownReason::kLocal);
  EXPECT_EQ(at(0).channel(0).queued_bytes(node(1)), 0u);
  for (const auto& message : at(1).sink(0).messages)
    EXPECT_EQ(message.payload.size(), payload.size());
}

TEST_P(Links, EndWithTheChannelThatHoldsThem) {
  start({.nodes = 2, .shards = 2});
  at(1).channels.erase(0);
  at(1).sinks.erase(0);
  ASSERT_TRUE(run_until([&] { return all_down(0, 1) && all_down(1, 0); }));
}

TEST_P(Links, AreTakenByOneOwnerEach) {
  start({.nodes = 2, .shards = 2});
  Transport& transport = *at(0).transport;
  EXPECT_EQ(transport.channel(0).error().code, ErrorCode::kAlreadyExists);
  EXPECT_EQ(transport.channel(kControlChannel).error().code, ErrorCode::kAlreadyExists);
  EXPECT_EQ(transport.channel(2).error().code, ErrorCode::kInvalidArgument);
}

TEST_P(Links, StayWhenTheTransportEnds) {
  start({});
  at(0).transport.reset();
  ASSERT_TRUE(send_text(at(0).channel(0), node(1), "still here").ok());
  ASSERT_TRUE(run_until([&] { return at(1).sink(0).received == 1; }));
}

INSTANTIATE_TEST_SUITE_P(Over, Links, ::testing::ValuesIn(transports()), kByName);

TEST(MemoryHubLinks, TimeOutWhenTheNetworkIsCutAndStayRefusedWhenHealed) {
  MemoryCluster cluster({.nodes = 3});
  cluster.start_all();
  ASSERT_TRUE(cluster.connect_all());
  cluster.hub().cut(node(0), node(1));
  ASSERT_TRUE(cluster.run_until(
      [&] { return !cluster[0].sink(0).is_up(node(1)) && !cluster[1].sink(0).is_up(node(0)); }));
  EXPECT_EQ(cluster[0].sink(0).downs[0].reason, DownReason::kTimedOut);
  EXPECT_EQ(cluster[0].transport->status(node(1)).state, PeerState::kUnreachable);
  EXPECT_TRUE(cluster[2].sink(0).is_up(node(0)));
  cluster.hub().heal(node(1), node(0));
  cluster.run_for(milliseconds(20));
  EXPECT_FALSE(cluster[0].sink(0).is_up(node(1)));
  cluster.stop(1);
  cluster.start(1);
  EXPECT_TRUE(cluster.connect_all());
}

}  // namespace
}  // namespace gob::test
