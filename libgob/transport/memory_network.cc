#include "libgob/transport/memory_network.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

namespace gob {
namespace {

std::string text(NodeId node) { return "node " + std::to_string(node.value()); }

}  // namespace

MemoryHub::Network::Network(const Config& config) : config_(config), nodes_(config.nodes) {}

MemoryHub::Network::Node* MemoryHub::Network::node(NodeId id) const {
  return id.value() < nodes_.size() ? nodes_[id.value()].get() : nullptr;
}

bool MemoryHub::Network::is_cut(NodeId a, NodeId b) const {
  return cuts_.contains(std::minmax(a, b));
}

Result<std::uint64_t> MemoryHub::Network::start(NodeId self, std::uint64_t incarnation) {
  const std::lock_guard lock(mutex_);
  if (self.value() >= nodes_.size()) {
    return make_error(ErrorCode::kInvalidArgument, "memory transport: there is no " + text(self));
  }
  if (node(self) != nullptr) {
    return make_error(ErrorCode::kAlreadyExists,
                      "memory transport: " + text(self) + " runs already");
  }
  auto fresh = std::make_unique<Node>();
  fresh->incarnation = incarnation != 0 ? incarnation : ++last_incarnation_;
  last_incarnation_ = std::max(last_incarnation_, fresh->incarnation);
  fresh->peers.resize(nodes_.size());
  for (unsigned i = 0; i <= config_.shards; ++i) {
    Inbox inbox;
    inbox.event.reset(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    if (!inbox.event) return system_error("memory transport: cannot make an eventfd");
    inbox.queued_bytes.resize(nodes_.size());
    const auto number = i < config_.shards ? static_cast<std::uint8_t>(i) : kControlChannel;
    fresh->inboxes.emplace(number, std::move(inbox));
  }
  const std::uint64_t chosen = fresh->incarnation;
  nodes_[self.value()] = std::move(fresh);
  connect_all();
  return chosen;
}

void MemoryHub::Network::stop_setup(NodeId self) {
  const std::lock_guard lock(mutex_);
  node(self)->setting_up = false;
  end_if_unused(self);
}

Result<int> MemoryHub::Network::take_channel(NodeId self, std::uint8_t number) {
  const std::lock_guard lock(mutex_);
  Node& here = *node(self);
  const auto inbox = here.inboxes.find(number);
  if (inbox == here.inboxes.end()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "memory transport: there is no channel " + std::to_string(number));
  }
  if (std::exchange(inbox->second.taken, true)) {
    return make_error(ErrorCode::kAlreadyExists,
                      "memory transport: channel " + std::to_string(number) + " is taken already");
  }
  ++here.channels;
  return inbox->second.event.get();
}

void MemoryHub::Network::close_channel(NodeId self, std::uint8_t number) {
  const std::lock_guard lock(mutex_);
  Node& here = *node(self);
  here.inboxes.at(number).closed = true;
  here.inboxes.at(number).items.clear();
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    const NodeId peer{static_cast<std::uint16_t>(i)};
    if (!here.peers[i].up) continue;
    go_down(self, peer, {DownReason::kLocal, "its channel was closed here"});
    go_down(peer, self, {DownReason::kClosed, "the peer closed the connection"});
  }
  --here.channels;
  end_if_unused(self);
}

void MemoryHub::Network::end_if_unused(NodeId self) {
  const Node& here = *node(self);
  if (here.setting_up || here.channels > 0) return;
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    const NodeId peer{static_cast<std::uint16_t>(i)};
    if (here.peers[i].up) go_down(peer, self, {DownReason::kClosed, "the peer ended"});
  }
  nodes_[self.value()].reset();
}

void MemoryHub::Network::connect_all() {
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    for (std::size_t j = i + 1; j < nodes_.size(); ++j) {
      Node* a = nodes_[i].get();
      Node* b = nodes_[j].get();
      if (a == nullptr || b == nullptr || a->peers[j].up) continue;
      const NodeId a_id{static_cast<std::uint16_t>(i)};
      const NodeId b_id{static_cast<std::uint16_t>(j)};
      if (!a->setting_up || !b->setting_up || is_cut(a_id, b_id)) continue;
      if (a->peers[j].refused.has(b->incarnation)) continue;
      if (b->peers[i].refused.has(a->incarnation)) continue;
      a->peers[j].up = b->peers[i].up = true;
      // Control is the last inbox: who hears of a peer there finds it on every shard.
      for (const auto& [number, inbox] : a->inboxes)
        push(*a, number, {b_id, UpNotice{b->incarnation}});
      for (const auto& [number, inbox] : b->inboxes)
        push(*b, number, {a_id, UpNotice{a->incarnation}});
    }
  }
}

void MemoryHub::Network::push(Node& to, std::uint8_t number, Item item) {
  Inbox& inbox = to.inboxes.at(number);
  if (inbox.closed) return;
  inbox.items.push_back(std::move(item));
  const std::uint64_t one = 1;
  if (inbox.items.size() == 1) {
    [[maybe_unused]] const auto written = ::write(inbox.event.get(), &one, sizeof one);
  }
}

void MemoryHub::Network::go_down(NodeId at, NodeId peer, const DownNotice& notice) {
  Node* here = node(at);
  if (here == nullptr || !here->peers[peer.value()].up) return;
  here->peers[peer.value()].up = false;
  if (const Node* there = node(peer)) here->peers[peer.value()].refused.add(there->incarnation);
  if (notice.reason == DownReason::kLocal || notice.reason == DownReason::kProtocol) {
    forget_letters(*here, peer);
  }
  for (const auto& [number, inbox] : here->inboxes) push(*here, number, {peer, notice});
}

void MemoryHub::Network::forget_letters(Node& at, NodeId from) {
  for (auto& [number, inbox] : at.inboxes) {
    std::erase_if(inbox.items, [&](const Item& item) {
      return item.peer == from && std::holds_alternative<Letter>(item.what);
    });
    inbox.queued_bytes[from.value()] = 0;
    if (!inbox.items.empty()) continue;
    std::uint64_t count = 0;
    [[maybe_unused]] const auto bytes = ::read(inbox.event.get(), &count, sizeof count);
  }
}

Status MemoryHub::Network::send(NodeId from, NodeId to, std::uint8_t number, Letter letter) {
  const std::lock_guard lock(mutex_);
  const auto unavailable = [&](const char* why) {
    return make_error(ErrorCode::kUnavailable, "send to " + text(to) + ": " + why);
  };
  Node& here = *node(from);
  Node* there = node(to);
  if (to.value() >= nodes_.size() || !here.peers[to.value()].up || there == nullptr) {
    return unavailable("it is not connected");
  }
  Inbox& inbox = there->inboxes.at(number);
  std::size_t& queued = inbox.queued_bytes[from.value()];
  if (queued + letter.bytes.size() > config_.max_queued_bytes) {
    go_down(from, to, {DownReason::kLocal, "it does not take its messages"});
    go_down(to, from, {DownReason::kClosed, "the peer closed the connection"});
    return unavailable("it does not take its messages");
  }
  queued += letter.bytes.size();
  push(*there, number, {from, std::move(letter)});
  return {};
}

std::optional<MemoryHub::Network::Item> MemoryHub::Network::next(NodeId self, std::uint8_t number) {
  const std::lock_guard lock(mutex_);
  Inbox& inbox = node(self)->inboxes.at(number);
  if (inbox.items.empty()) return std::nullopt;
  Item item = std::move(inbox.items.front());
  inbox.items.pop_front();
  if (const auto* letter = std::get_if<Letter>(&item.what)) {
    inbox.queued_bytes[item.peer.value()] -= letter->bytes.size();
  }
  if (inbox.items.empty()) {
    std::uint64_t count = 0;
    [[maybe_unused]] const auto bytes = ::read(inbox.event.get(), &count, sizeof count);
  }
  return item;
}

void MemoryHub::Network::drop(NodeId self, NodeId peer, DownReason reason,
                              const std::string& detail) {
  const std::lock_guard lock(mutex_);
  if (peer.value() >= nodes_.size() || !node(self)->peers[peer.value()].up) return;
  forget_letters(*node(self), peer);
  go_down(self, peer, {reason, detail});
  go_down(peer, self, {DownReason::kClosed, "the peer closed the connection"});
}

std::size_t MemoryHub::Network::queued_bytes(NodeId from, NodeId to, std::uint8_t number) const {
  const std::lock_guard lock(mutex_);
  const Node* there = node(to);
  return there == nullptr ? 0 : there->inboxes.at(number).queued_bytes[from.value()];
}

PeerStatus MemoryHub::Network::status(NodeId self, NodeId peer) const {
  const std::lock_guard lock(mutex_);
  const Node* there = node(peer);
  if (peer.value() >= nodes_.size()) return {PeerState::kUnreachable, 0, "no such node"};
  if (node(self)->peers[peer.value()].up) {
    return {PeerState::kConnected, there == nullptr ? 0 : there->incarnation, "in memory"};
  }
  if (is_cut(self, peer)) return {PeerState::kUnreachable, 0, "cut"};
  if (there == nullptr) return {PeerState::kRefused, 0, "not running"};
  return {PeerState::kConnecting, 0, "its incarnation is refused, or it lets go"};
}

void MemoryHub::Network::allow(NodeId self, NodeId peer) {
  const std::lock_guard lock(mutex_);
  if (peer.value() >= nodes_.size()) return;
  node(self)->peers[peer.value()].refused.clear();
  connect_all();
}

void MemoryHub::Network::cut(NodeId a, NodeId b) {
  const std::lock_guard lock(mutex_);
  cuts_.insert(std::minmax(a, b));
  go_down(a, b, {DownReason::kTimedOut, "the network is cut"});
  go_down(b, a, {DownReason::kTimedOut, "the network is cut"});
}

void MemoryHub::Network::heal(NodeId a, NodeId b) {
  const std::lock_guard lock(mutex_);
  cuts_.erase(std::minmax(a, b));
  connect_all();
}

}  // namespace gob
