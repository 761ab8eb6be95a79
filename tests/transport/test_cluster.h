// Nodes for the transport tests: any transport, all nodes in this process, driven by the test's
// thread.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "libgob/transport/memory_transport.h"
#include "libgob/transport/tcp_transport.h"
#include "libgob/transport/transport.h"

namespace gob::test {

constexpr NodeId node(unsigned value) { return NodeId{static_cast<std::uint16_t>(value)}; }

// Remembers what a channel said, and checks the order every transport promises.
class Recorder : public ChannelSink {
 public:
  struct Message {
    NodeId from;
    std::string header;
    std::string payload;
  };
  struct Down {
    NodeId peer;
    DownReason reason;
    std::string detail;
  };

  void on_up(NodeId peer, std::uint64_t incarnation) override;
  void on_message(NodeId from, std::span<const std::byte> header,
                  std::span<const std::byte> payload) override;
  void on_down(NodeId peer, DownReason reason, const std::string& detail) override;

  [[nodiscard]] bool is_up(NodeId peer) const { return up_.contains(peer); }
  [[nodiscard]] std::size_t up_count() const { return up_.size(); }
  [[nodiscard]] std::uint64_t incarnation(NodeId peer) const { return up_.at(peer); }

  std::vector<Message> messages;
  std::vector<Down> downs;
  std::size_t ups = 0;
  bool keep_messages = true;  // false: only count
  std::size_t received = 0;
  std::function<void(const Message&)> reaction;  // after a message was recorded

 private:
  std::map<NodeId, std::uint64_t> up_;
};

struct TestNode {
  std::unique_ptr<Transport> transport;
  std::map<std::uint8_t, std::unique_ptr<Channel>> channels;
  std::map<std::uint8_t, Recorder> sinks;

  Channel& channel(std::uint8_t number) { return *channels.at(number); }
  Recorder& sink(std::uint8_t number) { return sinks[number]; }
};

struct ClusterOptions {
  unsigned nodes = 2;
  unsigned shards = 1;
  std::size_t max_queued_bytes = std::size_t{64} << 20;
  std::chrono::milliseconds peer_timeout{10000};  // generous: the machine may be slow
  std::chrono::milliseconds stall_timeout{60000};
};

class TestCluster {
 public:
  virtual ~TestCluster() = default;
  // Starts a node and takes all its channels.
  virtual TestNode& start(unsigned id, std::uint64_t incarnation = 0);
  void start_all();
  void stop(unsigned id) { nodes_.erase(id); }
  TestNode& operator[](unsigned id) { return nodes_.at(id); }

  // Polls every channel of every node, except those in `deaf`, until `done` or half a minute is
  // over.
  [[nodiscard]] bool run_until(const std::function<bool()>& done);
  // Polls for so long, to see that something does not happen.
  void run_for(std::chrono::milliseconds time);
  // Until all running nodes are up for each other on all channels.
  [[nodiscard]] virtual bool connect_all();
  void set_deaf(unsigned id, std::uint8_t channel, bool deaf);

  explicit TestCluster(const ClusterOptions& options) : options_(options) {}

 protected:
  virtual Result<std::unique_ptr<Transport>> open(unsigned id, std::uint64_t incarnation) = 0;

  const ClusterOptions options_;
  std::map<unsigned, TestNode> nodes_;

 private:
  void poll_once(int timeout_ms);
  std::map<std::pair<unsigned, std::uint8_t>, bool> deaf_;
};

class MemoryCluster final : public TestCluster {
 public:
  explicit MemoryCluster(const ClusterOptions& options);
  ~MemoryCluster() override { nodes_.clear(); }
  MemoryHub& hub() { return hub_; }

 protected:
  Result<std::unique_ptr<Transport>> open(unsigned id, std::uint64_t incarnation) override;

 private:
  MemoryHub hub_;
};

class TcpCluster : public TestCluster {
 public:
  explicit TcpCluster(const ClusterOptions& options);
  [[nodiscard]] virtual TcpConfig config(unsigned id) const;
  [[nodiscard]] const std::string& host() const { return host_; }

 protected:
  Result<std::unique_ptr<Transport>> open(unsigned id, std::uint64_t incarnation) override;

 private:
  const std::string host_;  // a loopback address of this cluster's own
};

// The same with every node's shard channels on the RDMA device of this machine.
class VerbsCluster final : public TcpCluster {
 public:
  using TcpCluster::TcpCluster;
  [[nodiscard]] TcpConfig config(unsigned id) const override;
  // Also that every shard's messages go over RDMA.
  [[nodiscard]] bool connect_all() override;
};

// The transports that the contract suite runs over: "tcp" and "memory", or what the environment
// variable GOB_TEST_TRANSPORT names. "verbs" needs an RDMA device.
std::vector<std::string> transports();

std::unique_ptr<TestCluster> make_cluster(const std::string& transport,
                                          const ClusterOptions& options);

std::span<const std::byte> bytes_of(const std::string& text);
Status send_text(Channel& channel, NodeId to, const std::string& header,
                 const std::string& payload = {});
[[nodiscard]] bool readable(int fd);

// Names the instances of a suite by their transport.
inline constexpr auto kByName = [](const auto& instance) { return std::string(instance.param); };

}  // namespace gob::test
