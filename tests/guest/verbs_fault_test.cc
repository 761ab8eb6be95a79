// What happens to messages when RDMA fails under them. Needs root, and soft-RoCE on a network
// interface of no other use (rxe0 on rdma0, see inside.sh), which these tests take down and remove.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <random>

#include "tests/transport/test_cluster.h"

namespace gob::test {
namespace {

using Clock = std::chrono::steady_clock;

int sh(const std::string& line) { return std::system(line.c_str()); }

long ms_since(Clock::time_point start) {
  return static_cast<long>(
      std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start).count());
}

class VerbsFaults : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(sh("ip link set rdma0 up"), 0);
    ASSERT_EQ(sh("rdma link show rxe0/1 >/dev/null 2>&1 || "
                 "rdma link add rxe0 type rxe netdev rdma0"),
              0);
  }

  void start(const ClusterOptions& options) {
    cluster_ = std::make_unique<VerbsCluster>(options);
    cluster_->start_all();
    ASSERT_TRUE(cluster_->connect_all());
    for (const unsigned id : {0u, 1u}) {
      at(id).sink(0).reaction = [this, id](const Recorder::Message& message) {
        Flow& flow = flows_[1 - id];
        ASSERT_EQ(message.header, std::to_string(flow.received)) << "lost, doubled or out of order";
        ASSERT_EQ(message.payload, payload(flow.received));
        ++flow.received;
        at(id).sink(0).messages.clear();
      };
    }
  }
  TestNode& at(unsigned id) { return (*cluster_)[id]; }

  static std::string payload(std::uint64_t number) {
    std::mt19937 random(static_cast<std::uint32_t>(number));
    return std::string(random() % 3 == 0 ? random() % 20000 : 0, static_cast<char>(random()));
  }

  // Sends both ways, with up to `kUnderWay` messages not yet received, until `done`.
  [[nodiscard]] bool stream_until(const std::function<bool()>& done) {
    constexpr std::uint64_t kUnderWay = 400;  // more than the ring and its chunks hold
    return cluster_->run_until([&] {
      for (const unsigned from : {0u, 1u}) {
        Flow& flow = flows_[from];
        for (int i = 0; i < 20 && flow.sent - flow.received < kUnderWay; ++i, ++flow.sent) {
          const Status sent = send_text(at(from).channel(0), node(1 - from),
                                        std::to_string(flow.sent), payload(flow.sent));
          EXPECT_TRUE(sent.ok()) << sent.error().message();
          if (!sent) return true;
        }
      }
      return HasFatalFailure() || done();
    });
  }
  [[nodiscard]] bool stream_more(std::uint64_t messages) {
    const std::uint64_t until[] = {flows_[0].received + messages, flows_[1].received + messages};
    return stream_until(
        [&] { return flows_[0].received >= until[0] && flows_[1].received >= until[1]; });
  }
  [[nodiscard]] std::string way(unsigned id) {
    return at(id).channel(0).path(node(1 - id)).transport;
  }
  void expect_fallen_back() {
    for (const unsigned id : {0u, 1u}) {
      const PathInfo path = at(id).channel(0).path(node(1 - id));
      EXPECT_EQ(path.transport, "tcp");
      EXPECT_EQ(path.fall_backs, 1u);
      EXPECT_NE(path.reason.find("RDMA failed"), std::string::npos) << path.reason;
      EXPECT_TRUE(at(id).sink(0).downs.empty());
    }
  }

  struct Flow {
    std::uint64_t sent = 0;
    std::uint64_t received = 0;
  };
  std::unique_ptr<VerbsCluster> cluster_;
  Flow flows_[2];
};

TEST_F(VerbsFaults, ARemovedDeviceLosesNoMessageAndIsLetGo) {
  start({});
  ASSERT_TRUE(stream_more(1000));
  const auto begun = Clock::now();
  auto removal = std::async(std::launch::async, [] { return sh("rdma link delete rxe0"); });
  ASSERT_TRUE(stream_until([&] { return way(0) == "tcp" && way(1) == "tcp"; }));
  std::printf("device removed under load: all over TCP after %ld ms\n", ms_since(begun));
  ASSERT_TRUE(stream_until(
      [&] { return removal.wait_for(std::chrono::seconds(0)) == std::future_status::ready; }));
  EXPECT_EQ(removal.get(), 0);
  std::printf("the kernel had the device back after %ld ms\n", ms_since(begun));
  ASSERT_TRUE(stream_more(1000));
  expect_fallen_back();
  EXPECT_EQ(at(0).transport->rdma().device, "");
}

TEST_F(VerbsFaults, ADeadLinkIsNoticedAndLosesNoMessage) {
  start({});
  ASSERT_TRUE(stream_more(1000));
  const auto begun = Clock::now();
  ASSERT_EQ(sh("ip link set rdma0 down"), 0);
  ASSERT_TRUE(stream_until([&] { return way(0) == "tcp" && way(1) == "tcp"; }));
  std::printf("link down under load: all over TCP after %ld ms\n", ms_since(begun));
  ASSERT_TRUE(stream_more(1000));
  expect_fallen_back();
}

TEST_F(VerbsFaults, ALinkThatComesBackInTimeIsNotGivenUp) {
  start({});
  ASSERT_TRUE(stream_more(200));
  ASSERT_EQ(sh("ip link set rdma0 down; ip link set rdma0 up"), 0);
  ASSERT_TRUE(stream_more(1000));
}

// What was still waiting for room in the ring ends with the peer (channel.h: messages may be lost
// at the end of a link); what arrives is without a gap, which the reaction checks.
TEST_F(VerbsFaults, AnEndedPeerIsDownAndLeavesNoGapInWhatItSaid) {
  start({});
  ASSERT_TRUE(stream_more(500));
  const std::uint64_t received = flows_[1].received;
  const auto begun = Clock::now();
  cluster_->stop(1);
  ASSERT_TRUE(cluster_->run_until([&] { return !at(0).sink(0).is_up(node(1)); }));
  std::printf("peer ended under load: noticed after %ld ms\n", ms_since(begun));
  EXPECT_FALSE(HasFatalFailure());
  EXPECT_GE(flows_[1].received, received);
  EXPECT_LE(flows_[1].received, flows_[1].sent);
}

TEST_F(VerbsFaults, PeersWithAndWithoutRdmaLiveInOneCluster) {
  class Mixed final : public TcpCluster {
   public:
    using TcpCluster::TcpCluster;
    [[nodiscard]] TcpConfig config(unsigned id) const override {
      TcpConfig config = TcpCluster::config(id);
      config.verbs = id == 2 ? VerbsUse::kNever : VerbsUse::kIfPossible;
      return config;
    }
  } mixed({.nodes = 3});
  mixed.start_all();
  ASSERT_TRUE(mixed.connect_all());
  const auto way_of = [&](unsigned from, unsigned to) {
    return mixed[from].channel(0).path(node(to));
  };
  EXPECT_EQ(way_of(0, 1).transport, "verbs");
  EXPECT_EQ(way_of(1, 0).transport, "verbs");
  EXPECT_EQ(way_of(0, 2).transport, "tcp");
  EXPECT_EQ(way_of(0, 2).reason, "the other end offers no RDMA");
  EXPECT_EQ(way_of(2, 0).reason, "this node is configured for TCP only");
  for (unsigned from = 0; from < 3; ++from) {
    for (unsigned to = 0; to < 3; ++to) {
      if (from == to) continue;
      ASSERT_TRUE(send_text(mixed[from].channel(0), node(to), "hello").ok());
    }
  }
  EXPECT_TRUE(mixed.run_until([&] {
    return mixed[0].sink(0).received == 2 && mixed[1].sink(0).received == 2 &&
           mixed[2].sink(0).received == 2;
  }));
}

TEST_F(VerbsFaults, WhoDemandsRdmaRefusesAPeerWithout) {
  class Demanding final : public TcpCluster {
   public:
    using TcpCluster::TcpCluster;
    [[nodiscard]] TcpConfig config(unsigned id) const override {
      TcpConfig config = TcpCluster::config(id);
      config.verbs = id == 0 ? VerbsUse::kRequired : VerbsUse::kNever;
      return config;
    }
  } cluster({.nodes = 2});
  cluster.start_all();
  cluster.run_for(std::chrono::milliseconds(500));
  EXPECT_EQ(cluster[0].sink(0).ups, 0u);
  EXPECT_EQ(cluster[1].sink(0).ups, 0u);
}

}  // namespace
}  // namespace gob::test
