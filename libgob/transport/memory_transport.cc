#include "libgob/transport/memory_transport.h"

#include <cstring>
#include <utility>
#include <vector>

#include "libgob/transport/memory_network.h"
#include "libgob/wire/frame.h"

namespace gob {
namespace {

constexpr std::size_t kItemsPerPoll = 256;

}  // namespace

class MemoryChannel final : public Channel {
 public:
  using Network = MemoryHub::Network;

  MemoryChannel(std::shared_ptr<Network> network, NodeId self, std::uint8_t number, int fd)
      : network_(std::move(network)),
        self_(self),
        number_(number),
        fd_(fd),
        max_payload_(number == kControlChannel ? wire::kMaxControlPayloadBytes
                                               : wire::kMaxPagePayloadBytes),
        counters_(network_->config().nodes) {}
  ~MemoryChannel() override { network_->close_channel(self_, number_); }

  int fd() const override { return fd_; }

  Status send(NodeId to, std::span<const std::byte> header,
              std::span<const iovec> payload) override {
    std::size_t payload_bytes = 0;
    for (const iovec& part : payload) payload_bytes += part.iov_len;
    if (header.size() > wire::kMaxHeaderBytes || payload_bytes > max_payload_ ||
        payload.size() > kMaxPayloadParts) {
      return make_error(ErrorCode::kInvalidArgument,
                        "send: the message is beyond the limits of the channel");
    }
    Network::Letter letter;
    letter.header_bytes = header.size();
    letter.bytes.reserve(header.size() + payload_bytes);
    letter.bytes.insert(letter.bytes.end(), header.begin(), header.end());
    for (const iovec& part : payload) {
      const auto* bytes = static_cast<const std::byte*>(part.iov_base);
      letter.bytes.insert(letter.bytes.end(), bytes, bytes + part.iov_len);
    }
    const std::size_t bytes = wire::kPrefixBytes + letter.bytes.size();
    Status sent = network_->send(self_, to, number_, std::move(letter));
    if (sent) {
      ++counters_[to.value()].messages_out;
      counters_[to.value()].bytes_out += bytes;
    }
    return sent;
  }

  std::size_t poll(ChannelSink& sink) override {
    std::size_t messages = 0;
    for (std::size_t i = 0; i < kItemsPerPoll; ++i) {
      const auto item = network_->next(self_, number_);
      if (!item) break;
      if (const auto* up = std::get_if<Network::UpNotice>(&item->what)) {
        sink.on_up(item->peer, up->incarnation);
      } else if (const auto* down = std::get_if<Network::DownNotice>(&item->what)) {
        sink.on_down(item->peer, down->reason, down->detail);
      } else {
        const auto& letter = std::get<Network::Letter>(item->what);
        const std::span<const std::byte> bytes(letter.bytes);
        ++messages;
        ++counters_[item->peer.value()].messages_in;
        counters_[item->peer.value()].bytes_in += wire::kPrefixBytes + bytes.size();
        sink.on_message(item->peer, bytes.first(letter.header_bytes),
                        bytes.subspan(letter.header_bytes));
      }
    }
    return messages;
  }

  void drop(NodeId peer, DownReason reason, const std::string& detail) override {
    network_->drop(self_, peer, reason, detail);
  }
  // Nothing is saved by holding messages back here.
  void cork() override {}
  void uncork() override {}
  PeerCounters counters(NodeId peer) const override {
    return peer.value() < counters_.size() ? counters_[peer.value()] : PeerCounters{};
  }
  std::size_t queued_bytes(NodeId peer) const override {
    return network_->queued_bytes(self_, peer, number_);
  }
  PathInfo path(NodeId) const override {
    PathInfo info;
    info.transport = "memory";
    return info;
  }

 private:
  const std::shared_ptr<Network> network_;
  const NodeId self_;
  const std::uint8_t number_;
  const int fd_;  // the network's
  const std::size_t max_payload_;
  std::vector<PeerCounters> counters_;
};

class MemoryTransport final : public Transport {
 public:
  MemoryTransport(std::shared_ptr<MemoryHub::Network> network, NodeId self,
                  std::uint64_t incarnation)
      : network_(std::move(network)), self_(self), incarnation_(incarnation) {}
  ~MemoryTransport() override { network_->stop_setup(self_); }

  Result<std::unique_ptr<Channel>> channel(std::uint8_t number) override {
    const auto fd = network_->take_channel(self_, number);
    if (!fd) return fd.error();
    return std::unique_ptr<Channel>(std::make_unique<MemoryChannel>(network_, self_, number, *fd));
  }
  PeerStatus status(NodeId peer) const override { return network_->status(self_, peer); }
  void disconnect(NodeId peer, const std::string& detail) override {
    network_->drop(self_, peer, DownReason::kLocal, detail);
  }
  void allow(NodeId peer) override { network_->allow(self_, peer); }
  std::uint64_t incarnation() const override { return incarnation_; }
  const char* name() const override { return "memory"; }

 private:
  const std::shared_ptr<MemoryHub::Network> network_;
  const NodeId self_;
  const std::uint64_t incarnation_;
};

MemoryHub::MemoryHub(const Config& config) : network_(std::make_shared<Network>(config)) {}
MemoryHub::~MemoryHub() = default;

Result<std::unique_ptr<Transport>> MemoryHub::open(NodeId self, std::uint64_t incarnation) {
  const auto started = network_->start(self, incarnation);
  if (!started) return started.error();
  return std::unique_ptr<Transport>(std::make_unique<MemoryTransport>(network_, self, *started));
}

void MemoryHub::cut(NodeId a, NodeId b) { network_->cut(a, b); }
void MemoryHub::heal(NodeId a, NodeId b) { network_->heal(a, b); }

}  // namespace gob
