// Peers: links that come up and break, and what comes over the control channel.
#include <spdlog/spdlog.h>

#include <algorithm>

#include "libgob/file/mount.h"
#include "libgob/runtime/node.h"
#include "libgob/runtime/peer_codec.h"

namespace gob {

// Membership hears of the peer, never of single channels.
void Node::link_up(unsigned channel, NodeId peer, std::uint64_t incarnation) {
  PeerLink& link = links_[peer.value()];
  if (!link.channel_up(channel, incarnation, config_.shards + 1)) return;
  spdlog::info("node {} is up", name_of(peer));
  pulse_.up(peer, now_ms());
  if (mount_ != nullptr) mount_->home_up(peer);
  file_client_->node_up(peer);
  step_membership(membership::PeerUp{peer, incarnation});
  for (MembershipMessage& message : link.take_early())
    step_membership(membership::Deliver{peer, std::move(message)});
}

// If the peer's end let go, a host that then refuses connections proves that it died in touch with
// us. After silence, if we let go, or if it may have done so because we stood still, it may have
// gone on without us before it died.
static LinkEnd link_end(DownReason reason, bool may_be_put_out) {
  const bool closed = reason == DownReason::kClosed || reason == DownReason::kReset;
  return closed && !may_be_put_out ? LinkEnd::kClosed : LinkEnd::kSilence;
}

void Node::link_down(unsigned channel, NodeId peer, DownReason reason, const std::string& detail) {
  PeerLink& link = links_[peer.value()];
  if (link.channel_down(channel, std::string(to_string(reason)) + ", " + detail)) {
    spdlog::warn("node {} is down: {}", name_of(peer), link.last_down());
    const bool may_be_put_out = pulse_.may_be_put_out(peer, now_ms());
    if (may_be_put_out)
      spdlog::warn(
          "this node stood still for so long that node {} may have gone on without it "
          "(stall_timeout_ms): it does not go on alone if that node is dead",
          name_of(peer));
    pulse_.down(peer);
    file_client_->node_down(peer);
    if (mount_ != nullptr) mount_->home_down(peer);
    file_server_->drop_node(peer);
    file_messages_.erase(peer);
    step_membership(membership::PeerDown{peer, link_end(reason, may_be_put_out)});
    SyncService::Out out;
    sync_.peer_down(peer, out);
    perform_sync(out);
  }
  const ViewRecord* record = membership_->record();
  const bool shares_view = record != nullptr && record->view.contains(peer);
  // Before there is a common view nothing was lost with the link.
  if (!link.has_channels() && !shares_view) transport_->allow(peer);
}

// A host that answers "nobody listens" proves that the process is dead; silence proves nothing.
void Node::look_for_deaths() {
  const ViewRecord* record = membership_->record();
  if (record == nullptr) return;
  for (NodeId node : std::vector<NodeId>(record->view.members)) {
    if (node == self_ || links_[node.value()].has_channels()) continue;
    if (transport_->status(node).state == PeerState::kRefused)
      step_membership(membership::ProofOfDeath{node});
    record = membership_->record();
    if (record == nullptr) return;
  }
}

// A peer whose kernel answers but which says nothing is stopped or hangs: others cannot wait for it.
void Node::feel_pulse() {
  const auto silent = pulse_.tick(now_ms());
  if (!silent) return;
  for (const NodeId peer : *silent)
    transport_->disconnect(peer, "its gobd has said nothing for " +
                                     std::to_string(config_.stall_timeout_ms) +
                                     " ms (stall_timeout_ms), though its kernel answers: it is stopped or hangs");
  const std::string word = encode_peer_message(AliveMessage{});
  for (std::size_t i = 0; i < links_.size(); ++i)
    if (links_[i].is_up()) send_to_peer(NodeId{static_cast<std::uint16_t>(i)}, word);
}

void Node::on_up(NodeId peer, std::uint64_t incarnation) {
  link_up(kControlChannel, peer, incarnation);
}

void Node::on_down(NodeId peer, DownReason reason, const std::string& detail) {
  link_down(kControlChannel, peer, reason, detail);
}

void Node::on_message(NodeId from, std::span<const std::byte>, std::span<const std::byte> payload) {
  Result<PeerMessage> message = decode_peer_message(payload);
  if (!message) return channel_->drop(from, DownReason::kProtocol, message.error().message());
  pulse_.heard(from, now_ms());
  std::visit(
      [&](auto& body) {
        using B = std::decay_t<decltype(body)>;
        if constexpr (std::is_same_v<B, MembershipMessage>) {
          PeerLink& link = links_[from.value()];
          if (!link.is_up()) {
            if (!link.keep(std::move(body)))
              channel_->drop(from, DownReason::kProtocol,
                             "it says too much before it is connected");
            return;
          }
          step_membership(membership::Deliver{from, std::move(body)});
        } else if constexpr (std::is_same_v<B, ContainerMessage>) {
          container::Actions actions;
          table_->deliver(from, body, actions);
          perform(actions);
        } else if constexpr (std::is_same_v<B, peer::FileBody>) {
          receive_file_message(from, std::move(body));
        } else if constexpr (std::is_same_v<B, AliveMessage>) {
          // It was heard: that is all.
        } else {
          static_assert(std::is_same_v<B, SyncMessage>);
          SyncService::Out out;
          sync_.deliver(from, body, out);
          perform_sync(out);
        }
      },
      *message);
}

void Node::send_to_peer(NodeId to, const std::string& bytes) {
  const iovec payload{const_cast<char*>(bytes.data()), bytes.size()};
  // A peer that is not up is about to leave the view; what it should hear is said to the next one.
  static_cast<void>(channel_->send(to, {}, {&payload, 1}));
}

void Node::on_peer_up(unsigned shard, NodeId peer, std::uint64_t incarnation) {
  static_cast<void>(
      mailbox_.post([this, shard, peer, incarnation] { link_up(shard, peer, incarnation); }));
}

void Node::on_peer_down(unsigned shard, NodeId peer, DownReason reason, const std::string& detail) {
  static_cast<void>(mailbox_.post(
      [this, shard, peer, reason, detail] { link_down(shard, peer, reason, detail); }));
}

void Node::on_serving(unsigned shard, Epoch epoch) {
  static_cast<void>(mailbox_.post([this, shard, epoch] { shard_serves(shard, epoch); }));
}

void Node::on_left(unsigned shard, bool stranded) {
  static_cast<void>(mailbox_.post([this, shard, stranded] { shard_left(shard, stranded); }));
}

void Node::on_fatal(unsigned shard, const Error& error) {
  static_cast<void>(mailbox_.post([this, shard, why = error.message()] {
    finish(NodeEnd::kFailed,
           "shard " + std::to_string(shard) + " cannot go on: " + why + "; this node stops");
  }));
}

}  // namespace gob
