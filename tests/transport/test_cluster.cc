#include "tests/transport/test_cluster.h"

#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>

namespace gob::test {
namespace {

constexpr std::chrono::seconds kPatience{60};
constexpr std::uint16_t kFirstPort = 7400;  // below the range from which TCP takes ports by itself

// Loopback has 2^24 addresses: with one for each cluster, tests that run at the same time, and
// connections that linger, never meet.
std::string own_loopback_address() {
  static std::atomic<unsigned> clusters{0};
  const auto pid = static_cast<unsigned>(::getpid());
  const unsigned b = 64 + (pid >> 12) % 128;
  const unsigned c = (pid >> 4) % 256;
  const unsigned d = 1 + (pid % 16) * 15 + clusters++ % 15;
  return "127." + std::to_string(b) + "." + std::to_string(c) + "." + std::to_string(d);
}

}  // namespace

void Recorder::on_up(NodeId peer, std::uint64_t incarnation) {
  ++ups;
  EXPECT_NE(incarnation, 0u);
  EXPECT_TRUE(up_.emplace(peer, incarnation).second) << "up twice: node " << peer.value();
}

void Recorder::on_message(NodeId from, std::span<const std::byte> header,
                          std::span<const std::byte> payload) {
  EXPECT_TRUE(is_up(from)) << "a message from node " << from.value() << ", which is not up";
  ++received;
  if (!keep_messages) return;
  const auto text = [](std::span<const std::byte> bytes) {
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  const Message message{from, text(header), text(payload)};
  messages.push_back(message);
  if (reaction) reaction(message);
}

void Recorder::on_down(NodeId peer, DownReason reason, const std::string& detail) {
  EXPECT_EQ(up_.erase(peer), 1u) << "down without up: node " << peer.value();
  EXPECT_FALSE(detail.empty());
  downs.push_back({peer, reason, detail});
}

TestNode& TestCluster::start(unsigned id, std::uint64_t incarnation) {
  auto opened = open(id, incarnation);
  if (!opened) throw std::runtime_error(opened.error().message());
  TestNode& fresh = nodes_[id];
  fresh = TestNode{};
  fresh.transport = std::move(*opened);
  for (unsigned i = 0; i <= options_.shards; ++i) {
    const auto number = i < options_.shards ? static_cast<std::uint8_t>(i) : kControlChannel;
    auto channel = fresh.transport->channel(number);
    if (!channel) throw std::runtime_error(channel.error().message());
    fresh.channels[number] = std::move(*channel);
    fresh.sinks[number];
  }
  return fresh;
}

void TestCluster::start_all() {
  for (unsigned id = 0; id < options_.nodes; ++id) start(id);
}

void TestCluster::set_deaf(unsigned id, std::uint8_t channel, bool deaf) {
  deaf_[{id, channel}] = deaf;
}

void TestCluster::poll_once(int timeout_ms) {
  std::vector<pollfd> fds;
  std::vector<std::pair<Channel*, Recorder*>> targets;
  for (auto& [id, test_node] : nodes_) {
    for (auto& [number, channel] : test_node.channels) {
      if (deaf_[{id, number}]) continue;
      fds.push_back({channel->fd(), POLLIN, 0});
      targets.emplace_back(channel.get(), &test_node.sinks.at(number));
    }
  }
  ::poll(fds.data(), fds.size(), timeout_ms);
  for (std::size_t i = 0; i < fds.size(); ++i) {
    if (fds[i].revents != 0) targets[i].first->poll(*targets[i].second);
  }
}

bool TestCluster::run_until(const std::function<bool()>& done) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!done()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    poll_once(10);  // `done` may look at things that make no descriptor readable
  }
  return true;
}

void TestCluster::run_for(std::chrono::milliseconds time) {
  const auto deadline = std::chrono::steady_clock::now() + time;
  while (std::chrono::steady_clock::now() < deadline) poll_once(10);
}

bool TestCluster::connect_all() {
  return run_until([&] {
    for (auto& [id, test_node] : nodes_) {
      for (auto& [number, sink] : test_node.sinks) {
        if (sink.up_count() + 1 < nodes_.size()) return false;
      }
    }
    return true;
  });
}

MemoryCluster::MemoryCluster(const ClusterOptions& options)
    : TestCluster(options),
      hub_({.nodes = options.nodes,
            .shards = options.shards,
            .max_queued_bytes = options.max_queued_bytes}) {}

Result<std::unique_ptr<Transport>> MemoryCluster::open(unsigned id, std::uint64_t incarnation) {
  return hub_.open(node(id), incarnation);
}

TcpCluster::TcpCluster(const ClusterOptions& options)
    : TestCluster(options), host_(own_loopback_address()) {}

TcpConfig TcpCluster::config(unsigned id) const {
  TcpConfig config;
  config.cluster = "test";
  config.self = node(id);
  for (unsigned i = 0; i < options_.nodes; ++i) {
    config.nodes.push_back({node(i), host_, static_cast<std::uint16_t>(kFirstPort + i)});
  }
  config.shards = options_.shards;
  config.max_queued_bytes = options_.max_queued_bytes;
  config.peer_timeout = options_.peer_timeout;
  config.stall_timeout = options_.stall_timeout;
  config.handshake_timeout = std::chrono::seconds(10);
  return config;
}

Result<std::unique_ptr<Transport>> TcpCluster::open(unsigned id, std::uint64_t incarnation) {
  TcpConfig own = config(id);
  own.incarnation = incarnation;
  return open_tcp(own);
}

TcpConfig VerbsCluster::config(unsigned id) const {
  TcpConfig config = TcpCluster::config(id);
  config.verbs = VerbsUse::kRequired;
  return config;
}

bool VerbsCluster::connect_all() {
  if (!TestCluster::connect_all()) return false;
  for (auto& [id, test_node] : nodes_) {
    for (auto& [number, channel] : test_node.channels) {
      for (const auto& [peer, other] : nodes_) {
        if (peer == id) continue;
        const PathInfo path = channel->path(node(peer));
        EXPECT_EQ(path.transport, number == kControlChannel ? "tcp" : "verbs") << path.reason;
      }
    }
  }
  return true;
}

std::vector<std::string> transports() {
  if (const char* named = std::getenv("GOB_TEST_TRANSPORT")) return {named};
  return {"tcp", "memory"};
}

std::unique_ptr<TestCluster> make_cluster(const std::string& transport,
                                          const ClusterOptions& options) {
  if (transport == "tcp") return std::make_unique<TcpCluster>(options);
  if (transport == "verbs") return std::make_unique<VerbsCluster>(options);
  return std::make_unique<MemoryCluster>(options);
}

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

Status send_text(Channel& channel, NodeId to, const std::string& header,
                 const std::string& payload) {
  const iovec part{const_cast<char*>(payload.data()), payload.size()};
  return channel.send(to, bytes_of(header), {&part, payload.empty() ? 0u : 1u});
}

bool readable(int fd) {
  pollfd p{fd, POLLIN, 0};
  return ::poll(&p, 1, 0) == 1;
}

}  // namespace gob::test
