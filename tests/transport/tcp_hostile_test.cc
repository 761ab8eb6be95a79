// The peer port against strangers: misconfigured nodes, other programs, and malice. Whatever they
// send, the node goes on serving its real peers.
#include <gtest/gtest.h>

#include <array>
#include <random>
#include <vector>

#include "libgob/wire/frame.h"
#include "tests/transport/fake_peer.h"
#include "tests/transport/test_cluster.h"

namespace gob::test {
namespace {

using std::chrono::milliseconds;

class Hostile : public ::testing::Test {
 protected:
  Hostile() : cluster_({.nodes = 3, .shards = 2}) { cluster_.start(0); }

  TcpConfig target() const { return cluster_.config(0); }
  // Real peers still come up and talk.
  void expect_still_serving() {
    cluster_.start(1);
    ASSERT_TRUE(cluster_.run_until([&] {
      for (const auto& [number, sink] : cluster_[0].sinks) {
        if (!sink.is_up(node(1))) return false;
      }
      return cluster_[1].sink(0).is_up(node(0));
    }));
    ASSERT_TRUE(send_text(cluster_[1].channel(0), node(0), "fine").ok());
    Recorder& sink = cluster_[0].sink(0);
    ASSERT_TRUE(cluster_.run_until(
        [&] { return !sink.messages.empty() && sink.messages.back().header == "fine"; }));
  }
  // Links of a whole fake node; index 2 is control.
  std::array<std::unique_ptr<FakePeer>, 3> link_up(unsigned self, std::uint64_t incarnation) {
    std::array<std::unique_ptr<FakePeer>, 3> links;
    const std::array<std::uint8_t, 3> numbers = {0, 1, kControlChannel};
    for (const std::size_t i : {2u, 0u, 1u}) {
      links[i] = std::make_unique<FakePeer>(target());
      EXPECT_TRUE(links[i]->shake_hands(self, numbers[i], incarnation));
    }
    EXPECT_TRUE(cluster_.run_until([&] {
      for (const auto& [number, sink] : cluster_[0].sinks) {
        if (!sink.is_up(node(self))) return false;
      }
      return true;
    }));
    return links;
  }

  TcpCluster cluster_;
};

TEST_F(Hostile, OtherProtocolsAreHungUpOn) {
  for (const std::string& text :
       {std::string("GET / HTTP/1.1\r\n\r\n"), std::string("SSH-2.0-x\r\n"), std::string(1, '\0'),
        std::string(100000, 'A'), std::string("GOBPEER\n") + std::string(40, '\xff')}) {
    FakePeer stranger(target());
    stranger.say(text);
    EXPECT_TRUE(stranger.closed());
  }
  expect_still_serving();
}

TEST_F(Hostile, RandomBytesAreHungUpOn) {
  std::mt19937 random(11);
  for (int i = 0; i < 200; ++i) {
    FakePeer stranger(target());
    std::string text(1 + random() % 200, '\0');
    for (char& c : text) c = static_cast<char>(random());
    stranger.say(text);
    if (i % 8 == 0) {
      EXPECT_TRUE(stranger.closed());
    }
  }
  expect_still_serving();
}

TEST_F(Hostile, HellosThatDoNotFitAreRejectedWithTheReason) {
  const auto answer_to = [&](auto&& change) {
    FakePeer peer(target());
    Hello hello = peer.hello(1, 0, 9);
    change(hello);
    peer.say(hello);
    const auto answer = peer.hear();
    EXPECT_TRUE(peer.closed());
    return answer && answer->kind == HelloKind::kReject ? answer->reason : HelloFault::kNone;
  };
  EXPECT_EQ(answer_to([](Hello& h) { h.cluster ^= 1; }), HelloFault::kCluster);
  EXPECT_EQ(answer_to([](Hello& h) { h.page_size = 16384; }), HelloFault::kPageBytes);
  EXPECT_EQ(answer_to([](Hello& h) { h.shards = 1; }), HelloFault::kShards);
  EXPECT_EQ(answer_to([](Hello& h) { h.channel = 2; }), HelloFault::kChannel);
  EXPECT_EQ(answer_to([](Hello& h) { h.node = node(0); }), HelloFault::kNode);
  EXPECT_EQ(answer_to([](Hello& h) { h.node = node(3); }), HelloFault::kNode);
  EXPECT_EQ(answer_to([](Hello& h) { h.target = node(2); }), HelloFault::kTarget);
  EXPECT_EQ(answer_to([](Hello& h) { h.incarnation = 0; }), HelloFault::kIncarnation);
  EXPECT_EQ(answer_to([](Hello& h) { h.target_incarnation = 1; }), HelloFault::kIncarnation);
  EXPECT_EQ(answer_to([](Hello& h) { h.kind = HelloKind::kConfirm; }), HelloFault::kIncarnation);
  expect_still_serving();
}

TEST_F(Hostile, AConfirmationMustComeFromWhoSaidHello) {
  const auto rejected = [&](auto&& change) {
    FakePeer peer(target());
    Hello hello = peer.hello(1, 0, 9);
    peer.say(hello);
    const auto answer = peer.hear();
    if (!answer) return false;
    hello.kind = HelloKind::kConfirm;
    hello.target_incarnation = answer->incarnation;
    change(hello);
    peer.say(hello);
    return peer.closed();
  };
  EXPECT_TRUE(rejected([](Hello& h) { h.node = node(2); }));
  EXPECT_TRUE(rejected([](Hello& h) { h.incarnation = 10; }));
  EXPECT_TRUE(rejected([](Hello& h) { h.channel = 1; }));
  EXPECT_TRUE(rejected([](Hello& h) { h.target_incarnation ^= 1; }));
  EXPECT_TRUE(rejected([](Hello& h) { h.kind = HelloKind::kHello; }));
  expect_still_serving();
}

TEST(HostileLimits, SilentStrangersAreFewAndShort) {
  TcpCluster cluster({.nodes = 2});
  TcpConfig config = cluster.config(0);
  config.handshake_timeout = milliseconds(300);
  config.max_half_open = 4;
  auto transport = open_tcp(config);
  ASSERT_TRUE(transport.ok());
  std::vector<std::unique_ptr<FakePeer>> strangers;
  for (int i = 0; i < 12; ++i) strangers.push_back(std::make_unique<FakePeer>(config));
  // Behind them in the queue: served as soon as the silent ones are thrown out.
  FakePeer peer(config);
  EXPECT_TRUE(peer.shake_hands(1, kControlChannel, 3));
  for (const auto& stranger : strangers) EXPECT_TRUE(stranger->closed());
}

TEST_F(Hostile, AbsurdFramesEndTheLink) {
  const auto links = link_up(1, 9);
  std::array<std::byte, wire::kPrefixBytes> prefix;
  wire::encode_prefix({.header_bytes = 0xffffffff, .payload_bytes = 0xffffffff}, prefix);
  links[0]->say(std::string(reinterpret_cast<const char*>(prefix.data()), prefix.size()));
  ASSERT_TRUE(cluster_.run_until([&] {
    for (const auto& [number, sink] : cluster_[0].sinks) {
      if (sink.is_up(node(1))) return false;
    }
    return true;
  }));
  for (const auto& [number, sink] : cluster_[0].sinks) {
    EXPECT_EQ(sink.downs[0].reason, DownReason::kProtocol);
  }
  for (const auto& link : links) EXPECT_TRUE(link->closed());
  expect_still_serving();
}

TEST_F(Hostile, PayloadsThatFitControlOnlyEndAShard) {
  const auto links = link_up(1, 9);
  std::array<std::byte, wire::kPrefixBytes> prefix;
  wire::encode_prefix({.header_bytes = 0,
                       .payload_bytes = static_cast<std::uint32_t>(wire::kMaxPagePayloadBytes + 1)},
                      prefix);
  links[1]->say(std::string(reinterpret_cast<const char*>(prefix.data()), prefix.size()));
  Recorder& sink = cluster_[0].sink(1);
  ASSERT_TRUE(cluster_.run_until([&] { return !sink.is_up(node(1)); }));
  EXPECT_EQ(sink.downs[0].reason, DownReason::kProtocol);
}

TEST_F(Hostile, HalfAFrameIsNeverDelivered) {
  const auto links = link_up(1, 9);
  std::array<std::byte, wire::kPrefixBytes> prefix;
  wire::encode_prefix({.header_bytes = 4, .payload_bytes = 4}, prefix);
  const std::string whole =
      std::string(reinterpret_cast<const char*>(prefix.data()), prefix.size()) + "headbody";
  links[0]->say(whole + whole.substr(0, whole.size() - 1));
  links[0]->say("");
  Recorder& sink = cluster_[0].sink(0);
  ASSERT_TRUE(cluster_.run_until([&] { return sink.received == 1; }));
  EXPECT_EQ(sink.messages[0].payload, "body");
  cluster_.run_for(milliseconds(30));
  EXPECT_EQ(sink.received, 1u);
  links[0]->say("y");
  ASSERT_TRUE(cluster_.run_until([&] { return sink.received == 2; }));
  EXPECT_EQ(sink.messages[1].payload, "body");
}

TEST_F(Hostile, ASecondHandshakeOfTheSameProcessDoesNotDisturbTheFirst) {
  const auto links = link_up(1, 9);
  FakePeer again(target());
  again.say(again.hello(1, 0, 9));
  const auto answer = again.hear();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->reason, HelloFault::kAlreadyConnected);
  EXPECT_TRUE(cluster_[0].sink(0).is_up(node(1)));
  ASSERT_TRUE(send_text(cluster_[0].channel(0), node(1), "still up").ok());
}

}  // namespace
}  // namespace gob::test
