#include "gobbench/channel_pair.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <fstream>
#include <thread>

#include "libgob/base/unique_fd.h"
#include "libgob/transport/transport.h"
#include "libgob/wire/page_header.h"

namespace gob::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kPatience{30};
constexpr std::size_t kHeaderBytes = 56;  // of a page message
constexpr NodeId kAsker{1};
constexpr NodeId kHolder{0};

double machine_cpu_seconds() {
  // user nice system idle iowait irq softirq steal, in ticks since the machine started
  std::ifstream file("/proc/stat");
  std::string name;
  std::array<double, 8> ticks{};
  file >> name;
  for (double& each : ticks) file >> each;
  return (ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6]) /
         static_cast<double>(::sysconf(_SC_CLK_TCK));
}

Result<std::vector<PeerAddress>> two_addresses() {
  std::vector<UniqueFd> held;
  std::vector<PeerAddress> addresses;
  for (const NodeId node : {kHolder, kAsker}) {
    held.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t bytes = sizeof address;
    if (::bind(held.back().get(), reinterpret_cast<sockaddr*>(&address), bytes) != 0 ||
        ::getsockname(held.back().get(), reinterpret_cast<sockaddr*>(&address), &bytes) != 0) {
      return system_error("a free port on 127.0.0.1");
    }
    addresses.push_back({node, "127.0.0.1", ntohs(address.sin_port)});
  }
  return addresses;
}

// One end: its channel, and how its thread waits.
class End : public ChannelSink {
 public:
  End(Channel& channel, bool polls) : channel_(channel), polls_(polls) {}

  // Until done() or nothing has come for too long.
  bool run() {
    auto last = Clock::now();
    while (!done()) {
      if (!polls_) {
        pollfd waiting{channel_.fd(), POLLIN, 0};
        if (::poll(&waiting, 1, 100) == 0) {
          if (Clock::now() - last > kPatience) return false;
          continue;
        }
      }
      if (channel_.poll(*this) > 0) {
        last = Clock::now();
      } else if (polls_ && Clock::now() - last > kPatience) {
        return false;
      }
    }
    return true;
  }
  void on_up(NodeId, std::uint64_t) override { up_.store(true); }
  void on_down(NodeId, DownReason, const std::string&) override { down_.store(true); }
  [[nodiscard]] bool up() const { return up_.load(); }

 protected:
  [[nodiscard]] virtual bool done() const = 0;
  [[nodiscard]] bool down() const { return down_.load(); }
  Channel& channel_;

 private:
  const bool polls_;
  std::atomic<bool> up_ = false;
  std::atomic<bool> down_ = false;
};

class Holder final : public End {
 public:
  using End::End;
  void stop() { stop_.store(true); }

 private:
  void on_message(NodeId from, std::span<const std::byte> header,
                  std::span<const std::byte>) override {
    const iovec page{page_.data(), page_.size()};
    static_cast<void>(channel_.send(from, header, {&page, 1}));
  }
  [[nodiscard]] bool done() const override { return stop_.load(); }
  std::array<std::byte, kPageSize> page_{std::byte{7}};
  std::atomic<bool> stop_ = false;
};

class Asker final : public End {
 public:
  Asker(Channel& channel, const ChannelPairOptions& options)
      : End(channel, options.polls), options_(options) {
    asked_at_.resize(options.under_way);
    round_ns_.reserve(options.pages);
  }
  void begin() {
    for (unsigned i = 0; i < options_.under_way; ++i) ask(i);
  }
  [[nodiscard]] std::vector<std::uint64_t> take_rounds() { return std::move(round_ns_); }
  [[nodiscard]] bool complete() const { return round_ns_.size() == options_.pages; }

 private:
  void ask(unsigned slot) {
    if (asked_ == options_.pages) return;
    ++asked_;
    std::array<std::byte, kHeaderBytes> header{};
    header[0] = static_cast<std::byte>(slot);
    asked_at_[slot] = Clock::now();
    static_cast<void>(channel_.send(kHolder, header, {}));
  }
  void on_message(NodeId, std::span<const std::byte> header,
                  std::span<const std::byte> payload) override {
    if (header.size() != kHeaderBytes || payload.size() != kPageSize ||
        payload.front() != std::byte{7}) {
      return;  // counts as missing
    }
    const auto slot = static_cast<unsigned>(header[0]);
    round_ns_.push_back(static_cast<std::uint64_t>(
        std::chrono::nanoseconds(Clock::now() - asked_at_[slot]).count()));
    ask(slot);
  }
  [[nodiscard]] bool done() const override { return complete() || down(); }

  const ChannelPairOptions options_;
  unsigned asked_ = 0;
  std::vector<Clock::time_point> asked_at_;
  std::vector<std::uint64_t> round_ns_;
};

struct OneNode {
  std::unique_ptr<Transport> transport;
  std::unique_ptr<Channel> channel;
};

Result<OneNode> open_node(const ChannelPairOptions& options, NodeId self,
                          const std::vector<PeerAddress>& addresses) {
  TcpConfig config;
  config.cluster = "gobbench";
  config.self = self;
  config.nodes = addresses;
  config.verbs = options.verbs;
  config.rdma_device = options.rdma_device;
  config.verbs_poll = options.busy_wait;
  if (options.polls) config.verbs_poll = kPatience;  // never asks the device to wake it
  auto transport = open_tcp(std::move(config));
  if (!transport) return transport.error();
  auto channel = (*transport)->channel(0);
  if (!channel) return channel.error();
  // The control channel is nobody's: its links wait for an owner.
  return OneNode{std::move(*transport), std::move(*channel)};
}

// The channels come up on this thread.
bool connect(OneNode& a, End& a_end, OneNode& b, End& b_end) {
  const auto deadline = Clock::now() + kPatience;
  while (!a_end.up() || !b_end.up()) {
    if (Clock::now() > deadline) return false;
    std::array<pollfd, 2> waiting = {pollfd{a.channel->fd(), POLLIN, 0},
                                     pollfd{b.channel->fd(), POLLIN, 0}};
    ::poll(waiting.data(), waiting.size(), 100);
    a.channel->poll(a_end);
    b.channel->poll(b_end);
  }
  return true;
}

}  // namespace

Result<ChannelPairResult> measure_channel_pair(const ChannelPairOptions& options) {
  const auto addresses = two_addresses();
  if (!addresses) return addresses.error();
  auto holder_node = open_node(options, kHolder, *addresses);
  if (!holder_node) return holder_node.error();
  auto asker_node = open_node(options, kAsker, *addresses);
  if (!asker_node) return asker_node.error();
  Holder holder(*holder_node->channel, options.polls);
  Asker asker(*asker_node->channel, options);
  if (!connect(*holder_node, holder, *asker_node, asker)) {
    return make_error(ErrorCode::kTimedOut, "two nodes on 127.0.0.1 did not connect");
  }

  ChannelPairResult result;
  result.path = asker_node->channel->path(kHolder);
  const char* const wanted = options.verbs == VerbsUse::kNever ? "tcp" : "verbs";
  if (result.path.transport != wanted) {
    return make_error(ErrorCode::kUnavailable, "messages go over " + result.path.transport +
                                                   ", not " + wanted + ": " + result.path.reason);
  }
  std::thread holding([&] { holder.run(); });
  const double cpu_before = machine_cpu_seconds();
  const auto begun = Clock::now();
  asker.begin();
  asker.run();
  result.seconds = std::chrono::duration<double>(Clock::now() - begun).count();
  result.machine_cpu_seconds = machine_cpu_seconds() - cpu_before;
  holder.stop();
  holding.join();
  if (!asker.complete()) {
    return make_error(ErrorCode::kSystem, "a page was asked for and did not come");
  }
  if (asker_node->channel->path(kHolder).transport != wanted) {
    return make_error(ErrorCode::kUnavailable, "RDMA was lost during the measurement");
  }
  result.round_ns = asker.take_rounds();
  return result;
}

}  // namespace gob::bench
