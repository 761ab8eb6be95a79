// A network that goes silent without a word. The test has a network of its own, so that it can
// switch it off: it runs in a new network namespace, which ends with the process.
#include <gtest/gtest.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

#include "libgob/base/unique_fd.h"
#include "tests/transport/test_cluster.h"

namespace gob::test {
namespace {

using std::chrono::milliseconds;

void switch_loopback(bool on) {
  const UniqueFd any(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  ASSERT_EQ(::ioctl(any.get(), SIOCGIFFLAGS, &request), 0) << std::strerror(errno);
  constexpr auto kUp = static_cast<short>(IFF_UP);
  request.ifr_flags = static_cast<short>(on ? request.ifr_flags | kUp : request.ifr_flags & ~kUp);
  ASSERT_EQ(::ioctl(any.get(), SIOCSIFFLAGS, &request), 0) << std::strerror(errno);
}

class Silence : public ::testing::Test {
 protected:
  // Once for the process, while it has one thread only.
  static void SetUpTestSuite() {
    const int what = ::geteuid() == 0 ? CLONE_NEWNET : CLONE_NEWUSER | CLONE_NEWNET;
    ASSERT_EQ(::unshare(what), 0) << "cannot make a network namespace (" << std::strerror(errno)
                                  << "): run as root, or allow unprivileged user namespaces";
  }
  void SetUp() override { switch_loopback(true); }
};

TEST_F(Silence, OfAnIdlePeerIsNoticedWithinThePeerTimeout) {
  TcpCluster cluster({.nodes = 2, .shards = 2, .peer_timeout = milliseconds(1000)});
  cluster.start_all();
  ASSERT_TRUE(cluster.connect_all());
  cluster.run_for(milliseconds(200));
  switch_loopback(false);
  const auto silent_since = std::chrono::steady_clock::now();
  ASSERT_TRUE(cluster.run_until([&] {
    for (const unsigned id : {0u, 1u}) {
      for (const auto& [number, sink] : cluster[id].sinks) {
        if (sink.is_up(node(1 - id))) return false;
      }
    }
    return true;
  }));
  // Probes leave once a second; the rest is generosity to a busy machine.
  EXPECT_LT(std::chrono::steady_clock::now() - silent_since, std::chrono::seconds(10));
  for (const unsigned id : {0u, 1u}) {
    for (const auto& [number, sink] : cluster[id].sinks) {
      EXPECT_EQ(sink.downs.at(0).reason, DownReason::kTimedOut) << sink.downs[0].detail;
    }
    // Nobody answered: no proof that the process is dead.
    EXPECT_TRUE(cluster.run_until([&] {
      return cluster[id].transport->status(node(1 - id)).state == PeerState::kUnreachable;
    }));
  }
  // The network comes back; the link does not.
  switch_loopback(true);
  EXPECT_TRUE(cluster.run_until([&] {
    return cluster[0].transport->status(node(1)).state == PeerState::kConnecting &&
           cluster[1].transport->status(node(0)).state == PeerState::kConnecting;
  }));
  EXPECT_FALSE(cluster[0].sink(0).is_up(node(1)));
  cluster.stop(1);
  cluster.start(1);
  EXPECT_TRUE(cluster.connect_all());
}

TEST_F(Silence, WithMessagesUnderWayIsNoticedAsWell) {
  TcpCluster cluster({.nodes = 2, .peer_timeout = milliseconds(500)});
  cluster.start_all();
  ASSERT_TRUE(cluster.connect_all());
  switch_loopback(false);
  ASSERT_TRUE(send_text(cluster[0].channel(0), node(1), "anybody?").ok());
  ASSERT_TRUE(cluster.run_until([&] { return !cluster[0].sink(0).is_up(node(1)); }));
  EXPECT_EQ(cluster[0].sink(0).downs[0].reason, DownReason::kTimedOut);
}

// ---- a peer that does not read: its window is closed, its kernel answers

constexpr std::size_t kParts = 256;
constexpr std::size_t kPartBytes = std::size_t{64} * 1024;  // together more than any socket buffers

void send_much(TcpCluster& cluster) {
  const std::string part(kPartBytes, 'x');
  for (std::size_t i = 0; i < kParts; ++i)
    ASSERT_TRUE(send_text(cluster[0].channel(0), node(1), std::to_string(i), part).ok());
  ASSERT_GT(cluster[0].channel(0).queued_bytes(node(1)), 0u) << "its window is not closed";
}

TEST_F(Silence, IsNotWhatAPeerThatDoesNotReadIsPutOutFor) {
  TcpCluster cluster({.nodes = 2, .peer_timeout = milliseconds(400)});
  cluster.start_all();
  ASSERT_TRUE(cluster.connect_all());
  cluster.set_deaf(1, 0, true);
  send_much(cluster);
  // The kernel's probes of the window are three seconds apart and more by then.
  cluster.run_for(milliseconds(8000));
  for (const unsigned id : {0u, 1u})
    for (const auto& [number, sink] : cluster[id].sinks)
      EXPECT_TRUE(sink.downs.empty()) << sink.downs[0].detail;
  cluster.set_deaf(1, 0, false);
  ASSERT_TRUE(cluster.run_until([&] { return cluster[1].sink(0).received == kParts; }));
  EXPECT_EQ(cluster[1].sink(0).messages.back().header, std::to_string(kParts - 1));
}

TEST_F(Silence, OfAPeerThatDidNotReadIsNoticedAsWell) {
  TcpCluster cluster({.nodes = 2, .peer_timeout = milliseconds(500)});
  cluster.start_all();
  ASSERT_TRUE(cluster.connect_all());
  cluster.set_deaf(1, 0, true);
  send_much(cluster);
  cluster.run_for(milliseconds(2000));
  ASSERT_TRUE(cluster[0].sink(0).downs.empty()) << cluster[0].sink(0).downs[0].detail;
  switch_loopback(false);
  const auto silent_since = std::chrono::steady_clock::now();
  ASSERT_TRUE(cluster.run_until([&] { return !cluster[0].sink(0).is_up(node(1)); }));
  EXPECT_LT(std::chrono::steady_clock::now() - silent_since, std::chrono::seconds(10));
  EXPECT_EQ(cluster[0].sink(0).downs[0].reason, DownReason::kTimedOut);
  EXPECT_NE(cluster[0].sink(0).downs[0].detail.find("has not answered"), std::string::npos)
      << cluster[0].sink(0).downs[0].detail;
}

TEST_F(Silence, OfAPeerThatTakesNothingForTheStallTimeoutEndsItsLink) {
  TcpCluster cluster(
      {.nodes = 2, .peer_timeout = milliseconds(500), .stall_timeout = milliseconds(3000)});
  cluster.start_all();
  ASSERT_TRUE(cluster.connect_all());
  cluster.set_deaf(1, 0, true);
  const auto begin = std::chrono::steady_clock::now();
  send_much(cluster);
  ASSERT_TRUE(cluster.run_until([&] { return !cluster[0].sink(0).is_up(node(1)); }));
  EXPECT_GT(std::chrono::steady_clock::now() - begin, milliseconds(2500));
  EXPECT_EQ(cluster[0].sink(0).downs[0].reason, DownReason::kTimedOut);
}

}  // namespace
}  // namespace gob::test
