// What is particular to TCP: configuration, ports, addresses, incarnations on other ports, silence.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <cstring>

#include "libgob/transport/socket.h"
#include "libgob/wire/frame.h"
#include "tests/transport/fake_peer.h"
#include "tests/transport/test_cluster.h"

namespace gob::test {
namespace {

using std::chrono::milliseconds;

bool is_state(Transport& transport, unsigned peer, PeerState state) {
  return transport.status(node(peer)).state == state;
}

// A port that is free on all addresses, and stays so for one more socket with SO_REUSEADDR: this
// one never listens.
class PortReservation {
 public:
  PortReservation() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const int on = 1;
    EXPECT_EQ(::setsockopt(socket_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
    sockaddr_in any{};
    any.sin_family = AF_INET;
    socklen_t size = sizeof(any);
    EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&any), size), 0);
    EXPECT_EQ(::getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&any), &size), 0);
    port_ = ntohs(any.sin_port);
  }
  [[nodiscard]] std::uint16_t port() const { return port_; }

 private:
  UniqueFd socket_;
  std::uint16_t port_ = 0;
};

TEST(Tcp, DoesWithoutAnRdmaDeviceUnlessOneIsDemanded) {
  const TcpCluster cluster({});
  TcpConfig config = cluster.config(0);
  config.rdma_device = "no_such_device";
  config.verbs = VerbsUse::kIfPossible;
  {
    const auto opened = open_tcp(config);
    ASSERT_TRUE(opened.ok());
    EXPECT_STREQ((*opened)->name(), "tcp");
    EXPECT_EQ((*opened)->rdma().device, "");
    EXPECT_NE((*opened)->rdma().reason.find("no_such_device"), std::string::npos);
  }
  config.verbs = VerbsUse::kRequired;
  const auto refused = open_tcp(config);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().context.find("transport = verbs"), std::string::npos);
  config.rdma_device = "rxe0:first";
  EXPECT_NE(open_tcp(config).error().context.find("device:port"), std::string::npos);
}

std::string congestion_control(const UniqueFd& socket) {
  std::array<char, 16> name{};
  socklen_t size = name.size();
  EXPECT_EQ(::getsockopt(socket.get(), IPPROTO_TCP, TCP_CONGESTION, name.data(), &size), 0);
  return std::string(name.data(), ::strnlen(name.data(), size));
}

TEST(Tcp, LinksUseCubicWhereTheKernelLetsThem) {
  const UniqueFd trial(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const UniqueFd link(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const std::string usual = congestion_control(trial);
  const bool may = ::setsockopt(trial.get(), IPPROTO_TCP, TCP_CONGESTION, "cubic", 5) == 0;
  ASSERT_TRUE(set_link_options(link.get(), milliseconds(2000)).ok());
  EXPECT_EQ(congestion_control(link), may ? "cubic" : usual);
}

TEST(Tcp, RefusesConfigurationsThatCannotWork) {
  const TcpCluster cluster({.nodes = 3});
  const auto code_of = [&](auto&& change) {
    TcpConfig config = cluster.config(0);
    change(config);
    const auto opened = open_tcp(config);
    return opened.ok() ? std::string("opened") : opened.error().context;
  };
  EXPECT_NE(code_of([](TcpConfig& c) { c.nodes.clear(); }).find("0 nodes"), std::string::npos);
  EXPECT_NE(code_of([](TcpConfig& c) { c.self = node(3); }).find("node 3"), std::string::npos);
  EXPECT_NE(code_of([](TcpConfig& c) { c.shards = 0; }).find("shards"), std::string::npos);
  EXPECT_NE(code_of([](TcpConfig& c) { c.shards = 65; }).find("shards"), std::string::npos);
  EXPECT_NE(code_of([](TcpConfig& c) { c.nodes[1].port = 0; }).find("port"), std::string::npos);
  EXPECT_NE(code_of([](TcpConfig& c) { std::swap(c.nodes[0], c.nodes[1]); }).find("order"),
            std::string::npos);
  EXPECT_NE(code_of([](TcpConfig& c) { c.peer_timeout = milliseconds(0); }).find("time-outs"),
            std::string::npos);
}

TEST(Tcp, SaysWhichAddressItCannotHaveAndWhy) {
  const TcpCluster cluster({.nodes = 2});
  const auto first = open_tcp(cluster.config(0));
  ASSERT_TRUE(first.ok()) << first.error().message();
  const auto second = open_tcp(cluster.config(0));
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().errno_value, EADDRINUSE);
  EXPECT_NE(second.error().context.find(cluster.host() + ":7400"), std::string::npos)
      << second.error().context;

  TcpConfig foreign = cluster.config(1);
  foreign.bind_host = "192.0.2.1";  // reserved for documentation: nobody has it
  const auto third = open_tcp(foreign);
  ASSERT_FALSE(third.ok());
  EXPECT_EQ(third.error().errno_value, EADDRNOTAVAIL);

  TcpConfig unknown = cluster.config(1);
  unknown.bind_host = "no such host";
  const auto fourth = open_tcp(unknown);
  ASSERT_FALSE(fourth.ok());
  EXPECT_NE(fourth.error().context.find("no such host"), std::string::npos);
}

TEST(Tcp, ListensWhereItIsToldTo) {
  TcpCluster cluster({.nodes = 2});
  TcpConfig config = cluster.config(0);
  config.bind_host = "0.0.0.0";
  // On all addresses a port is free only if no test that runs beside this one has it on its own.
  const PortReservation reservation;
  config.nodes[0].port = reservation.port();
  const auto transport = open_tcp(config);
  ASSERT_TRUE(transport.ok()) << transport.error().message();
  EXPECT_TRUE(FakePeer(config).shake_hands(1, kControlChannel, 5));
}

TEST(Tcp, ChoosesItsOwnIncarnation) {
  const TcpCluster a({.nodes = 1});
  const TcpCluster b({.nodes = 1});
  const auto first = open_tcp(a.config(0));
  const auto second = open_tcp(b.config(0));
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_NE((*first)->incarnation(), 0u);
  EXPECT_NE((*first)->incarnation(), (*second)->incarnation());
}

TEST(Tcp, KnowsWhetherAPeerIsRefusedUnreachableOrExpected) {
  TcpCluster cluster({.nodes = 3});
  cluster.start(1);
  Transport& transport = *cluster[1].transport;
  // The lower and the higher neighbour: one is called, the other only probed.
  ASSERT_TRUE(cluster.run_until([&] {
    return is_state(transport, 0, PeerState::kRefused) &&
           is_state(transport, 2, PeerState::kRefused);
  }));
  EXPECT_NE(transport.status(node(0)).detail.find("refused"), std::string::npos);
  cluster.start(0);
  cluster.start(2);
  ASSERT_TRUE(cluster.connect_all());
  EXPECT_TRUE(is_state(transport, 0, PeerState::kConnected));
  EXPECT_TRUE(is_state(transport, 2, PeerState::kConnected));
  EXPECT_EQ(transport.status(node(7)).state, PeerState::kUnreachable);
}

TEST(Tcp, CallsAHostThatHasNoAddressUnreachable) {
  TcpCluster cluster({.nodes = 2});
  TcpConfig config = cluster.config(1);
  config.nodes[0].host = "name.invalid";
  const auto transport = open_tcp(config);
  ASSERT_TRUE(transport.ok());
  ASSERT_TRUE(cluster.run_until([&] { return is_state(**transport, 0, PeerState::kUnreachable); }));
  EXPECT_NE((*transport)->status(node(0)).detail.find("name.invalid"), std::string::npos);
}

TEST(Tcp, TakesANewProcessOfAPeerForTheOldOne) {
  TcpCluster cluster({.nodes = 2, .shards = 2});
  cluster.start(0);
  cluster.start(1, 100);
  ASSERT_TRUE(cluster.connect_all());
  // The same node runs anew somewhere else, before anyone noticed that the old one is gone.
  TcpConfig config = cluster.config(1);
  config.incarnation = 200;
  config.nodes[1].port = 7499;
  auto opened = open_tcp(config);
  ASSERT_TRUE(opened.ok()) << opened.error().message();
  ASSERT_TRUE(cluster.run_until([&] {
    for (const auto& [number, sink] : cluster[0].sinks) {
      if (!sink.is_up(node(1)) || sink.incarnation(node(1)) != 200) return false;
    }
    return cluster[1].sink(0).downs.size() == 1;
  }));
  // The old process hears of it on the first link, and may close the other before it is taken.
  unsigned taken = 0;
  for (const auto& [number, sink] : cluster[0].sinks) {
    ASSERT_EQ(sink.downs.size(), 1u);
    if (sink.downs[0].reason == DownReason::kReset)
      ++taken;
    else
      EXPECT_EQ(sink.downs[0].reason, DownReason::kClosed);
  }
  EXPECT_GE(taken, 1u);
  // The old process knocks again, in vain.
  cluster.run_for(milliseconds(300));
  EXPECT_EQ(cluster[0].sink(0).incarnation(node(1)), 200u);
  EXPECT_EQ(cluster[0].sink(0).downs.size(), 1u);
}

TEST(Tcp, DropsAPeerThatLeavesItsMessagesWaiting) {
  TcpCluster cluster(
      {.nodes = 2, .peer_timeout = milliseconds(300), .stall_timeout = milliseconds(1000)});
  cluster.start(0);
  FakePeer control(cluster.config(0));
  FakePeer shard(cluster.config(0));
  ASSERT_TRUE(control.shake_hands(1, kControlChannel, 5));
  ASSERT_TRUE(shard.shake_hands(1, 0, 5));
  Recorder& sink = cluster[0].sink(0);
  ASSERT_TRUE(cluster.run_until([&] { return sink.is_up(node(1)); }));
  // Its kernel acknowledges what fits into its buffers; the rest waits, and nobody there reads.
  const std::string payload(wire::kMaxPagePayloadBytes, 'x');
  while (cluster[0].channel(0).queued_bytes(node(1)) == 0) {
    ASSERT_TRUE(send_text(cluster[0].channel(0), node(1), "", payload).ok());
  }
  ASSERT_TRUE(cluster.run_until([&] { return !sink.is_up(node(1)); }));
  EXPECT_EQ(sink.downs[0].reason, DownReason::kTimedOut);
}

TEST(Tcp, HoldsSmallMessagesBackWhileCorked) {
  TcpCluster cluster({.nodes = 2});
  cluster.start_all();
  ASSERT_TRUE(cluster.connect_all());
  Channel& from = cluster[0].channel(0);
  from.cork();
  ASSERT_TRUE(send_text(from, node(1), "a").ok());
  ASSERT_TRUE(send_text(from, node(1), "b").ok());
  EXPECT_EQ(from.queued_bytes(node(1)), 2 * (wire::kPrefixBytes + 1));
  ASSERT_TRUE(send_text(from, node(1), "c", "with payload").ok());
  EXPECT_EQ(from.queued_bytes(node(1)), 0u);
  ASSERT_TRUE(send_text(from, node(1), "d").ok());
  EXPECT_NE(from.queued_bytes(node(1)), 0u);
  from.uncork();
  EXPECT_EQ(from.queued_bytes(node(1)), 0u);
  ASSERT_TRUE(cluster.run_until([&] { return cluster[1].sink(0).received == 4; }));
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(cluster[1].sink(0).messages[i].header, std::string(1, static_cast<char>('a' + i)));
  }
}

}  // namespace
}  // namespace gob::test
