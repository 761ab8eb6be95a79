#include "libgob/transport/tcp_transport.h"

#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/random.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "libgob/transport/setup_mailbox.h"
#include "libgob/transport/socket.h"
#include "libgob/transport/tcp_channel.h"
#include "libgob/transport/tcp_setup.h"
#include "libgob/transport/verbs_device.h"
#include "libgob/wire/frame.h"

namespace gob {
namespace {

Status check(const TcpConfig& config) {
  const auto wrong = [](std::string what) {
    return make_error(ErrorCode::kInvalidArgument, "TCP transport: " + std::move(what));
  };
  if (config.nodes.empty() || config.nodes.size() > kMaxNodes) {
    return wrong(std::to_string(config.nodes.size()) + " nodes are configured, 1 to " +
                 std::to_string(kMaxNodes) + " are possible");
  }
  for (std::size_t i = 0; i < config.nodes.size(); ++i) {
    const PeerAddress& node = config.nodes[i];
    if (node.node.value() != i) return wrong("nodes must be listed in the order of their ids");
    if (node.port == 0) return wrong("node " + std::to_string(i) + " has no port");
  }
  if (config.self.value() >= config.nodes.size()) {
    return wrong("node " + std::to_string(config.self.value()) + " is not in the list of nodes");
  }
  if (config.shards < 1 || config.shards > kMaxShards) {
    return wrong(std::to_string(config.shards) + " shards are configured, 1 to " +
                 std::to_string(kMaxShards) + " are possible");
  }
  if (std::min({config.peer_timeout, config.stall_timeout, config.handshake_timeout}).count() < 1) {
    return wrong("time-outs must be at least a millisecond");
  }
  if (config.max_half_open < 1) return wrong("max_half_open must be at least 1");
  return {};
}

Result<std::uint64_t> random_incarnation() {
  std::uint64_t value = 0;
  while (value == 0) {
    if (::getrandom(&value, sizeof value, 0) != sizeof value) {
      return system_error("TCP transport: no random number for this incarnation");
    }
  }
  return value;
}

Result<UniqueFd> new_event() {
  UniqueFd event(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!event) return system_error("TCP transport: cannot make an eventfd");
  return event;
}

// Null if there is none to use; then `why_not` says so.
Result<std::shared_ptr<VerbsDevice>> open_device(const TcpConfig& config, std::string& why_not) {
  if (config.verbs == VerbsUse::kNever) {
    why_not = "this node is configured for TCP only";
    return std::shared_ptr<VerbsDevice>();
  }
  const PeerAddress& own = config.nodes[config.self.value()];
  auto addresses = resolve(own.host, own.port);
  auto device =
      VerbsDevice::open(config.rdma_device, addresses ? *addresses : std::vector<SocketAddress>());
  if (device.ok()) {
    spdlog::info("RDMA over {}", (*device)->describe());
    return device;
  }
  if (config.verbs == VerbsUse::kRequired) {
    return make_error(device.error().code,
                      "no RDMA, which transport = verbs demands: " + device.error().context +
                          "; choose auto to go on over TCP",
                      device.error().errno_value);
  }
  why_not = device.error().message();
  spdlog::info("no RDMA, peers are reached over TCP: {}", why_not);
  return std::shared_ptr<VerbsDevice>();
}

class TcpTransport final : public Transport {
 public:
  TcpTransport(const TcpConfig& config, std::shared_ptr<SetupMailbox> mailbox,
               std::shared_ptr<StatusBoard> board, LinkGates gates, std::unique_ptr<TcpSetup> setup,
               std::weak_ptr<VerbsDevice> device, std::string no_verbs)
      : config_(config),
        mailbox_(std::move(mailbox)),
        board_(std::move(board)),
        gates_(std::move(gates)),
        setup_(std::move(setup)),
        device_(std::move(device)),
        no_verbs_(std::move(no_verbs)) {}

  Result<std::unique_ptr<Channel>> channel(std::uint8_t number) override {
    const auto gate = gates_.find(number);
    if (gate == gates_.end()) {
      return make_error(ErrorCode::kInvalidArgument,
                        "TCP transport: there is no channel " + std::to_string(number));
    }
    {
      const std::lock_guard lock(mutex_);
      if (!taken_.insert(number).second) {
        return make_error(ErrorCode::kAlreadyExists,
                          "TCP transport: channel " + std::to_string(number) + " is taken already");
      }
    }
    const TcpChannelConfig channel_config{
        .nodes = config_.nodes.size(),
        .max_payload =
            number == kControlChannel ? wire::kMaxControlPayloadBytes : wire::kMaxPagePayloadBytes,
        .max_queued_bytes = config_.max_queued_bytes,
        .no_verbs = number == kControlChannel ? "control messages always go over TCP" : no_verbs_,
        .verbs_poll = config_.verbs_poll,
        .peer_timeout = config_.peer_timeout};
    return TcpChannel::open(channel_config, gate->second, mailbox_,
                            number == kControlChannel ? nullptr : device_.lock());
  }

  PeerStatus status(NodeId peer) const override { return board_->get(peer); }
  void disconnect(NodeId peer, const std::string& detail) override {
    mailbox_->post(Disconnect{peer, detail});
  }
  void allow(NodeId peer) override { mailbox_->post(Allow{peer}); }
  std::uint64_t incarnation() const override { return config_.incarnation; }
  const char* name() const override { return no_verbs_.empty() ? "verbs, tcp" : "tcp"; }
  RdmaInfo rdma() const override {
    const auto device = device_.lock();
    if (device == nullptr)
      return {"", no_verbs_.empty() ? "the device was removed" : no_verbs_, {}};
    return {device->describe(), device->lost() ? "the device is being removed" : "",
            device->hardware_counters()};
  }

 private:
  const TcpConfig config_;
  const std::shared_ptr<SetupMailbox> mailbox_;
  const std::shared_ptr<StatusBoard> board_;
  const LinkGates gates_;
  const std::unique_ptr<TcpSetup> setup_;
  const std::weak_ptr<VerbsDevice> device_;  // whoever uses it holds it
  const std::string no_verbs_;               // why there is no device
  std::mutex mutex_;
  std::set<std::uint8_t> taken_;  // under mutex_
};

}  // namespace

Result<std::unique_ptr<Transport>> open_tcp(TcpConfig config) {
  if (auto checked = check(config); !checked) return checked.error();
  if (config.incarnation == 0) {
    const auto incarnation = random_incarnation();
    if (!incarnation) return incarnation.error();
    config.incarnation = *incarnation;
  }
  const PeerAddress& own = config.nodes[config.self.value()];
  std::string no_verbs;
  auto device = open_device(config, no_verbs);
  if (!device) return device.error();
  auto listener = listen_on(config.bind_host.empty() ? own.host : config.bind_host, own.port);
  if (!listener) return listener.error();

  LinkGates gates;
  for (unsigned i = 0; i <= config.shards; ++i) {
    auto event = new_event();
    if (!event) return event.error();
    const auto number = i < config.shards ? static_cast<std::uint8_t>(i) : kControlChannel;
    gates.emplace(number, std::make_shared<LinkGate>(std::move(*event)));
  }
  auto event = new_event();
  if (!event) return event.error();
  auto mailbox = std::make_shared<SetupMailbox>(std::move(*event));
  auto board = std::make_shared<StatusBoard>(config.nodes.size());
  auto setup = TcpSetup::start(config, std::move(*listener), gates, mailbox, board, *device);
  if (!setup) return setup.error();
  return std::unique_ptr<Transport>(std::make_unique<TcpTransport>(
      config, std::move(mailbox), std::move(board), std::move(gates), std::move(*setup),
      std::weak_ptr(*device), std::move(no_verbs)));
}

}  // namespace gob
