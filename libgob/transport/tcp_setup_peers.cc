// Peers: when to call them, what their answers mean, and when their links go to the channels.
#include <spdlog/spdlog.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "libgob/transport/tcp_setup.h"

namespace gob {
namespace {

constexpr std::chrono::milliseconds kFirstBackoff{20};
constexpr std::chrono::milliseconds kLastBackoff{1000};

}  // namespace

void TcpSetup::try_peer(Peer& peer) {
  if (peer.addresses.empty()) {
    auto resolved = resolve(peer.address.host, peer.address.port);
    if (!resolved) {
      set_status(peer, PeerState::kUnreachable, resolved.error().message());
      return next_round(peer);
    }
    peer.addresses = std::move(*resolved);
    peer.next_address = 0;
    peer.round_refused = true;
  }
  // The shards' connections follow once this one was welcome.
  connect(peer, kControlChannel);
}

void TcpSetup::connect(Peer& peer, std::uint8_t channel) {
  peer.trying = true;
  Half half;
  half.stage = Half::Stage::kConnecting;
  half.ours = true;
  half.probe = !calls(peer);
  half.peer = peer.address.node;
  half.channel = channel;
  half.address = peer.addresses[peer.next_address];
  half.deadline = Clock::now() + config_.handshake_timeout;
  auto socket = begin_connect(half.address, config_.stall_timeout);
  if (!socket) return connect_failed(peer, {socket.error().errno_value, false});
  half.socket = std::move(*socket);
  if (add_half(std::move(half), EPOLLOUT) == nullptr) connect_failed(peer, {ENOMEM, false});
}

void TcpSetup::connect_failed(Peer& peer, const ConnectOutcome& outcome) {
  const std::string where = to_string(peer.addresses[peer.next_address]);
  peer.round_refused = peer.round_refused && outcome.process_dead;
  peer.trying = false;
  if (calls(peer)) abandon(peer);  // else it was a probe, and says nothing of calls from there
  if (++peer.next_address < peer.addresses.size()) {
    peer.next_try = Clock::now();
    return;
  }
  set_status(peer, peer.round_refused ? PeerState::kRefused : PeerState::kUnreachable,
             where + ": " + std::strerror(outcome.errno_value));
  next_round(peer);
}

void TcpSetup::next_round(Peer& peer) {
  peer.addresses.clear();
  peer.backoff = std::clamp(peer.backoff * 2, kFirstBackoff, kLastBackoff);
  peer.next_try = Clock::now() + peer.backoff;
}

// Ends every attempt that is under way with the peer, whoever began it.
void TcpSetup::abandon(Peer& peer) {
  std::vector<HalfId> under_way;
  for (const auto& [id, half] : halves_) {
    if (half.peer == peer.address.node) under_way.push_back(id);
  }
  for (const HalfId id : under_way) remove_half(id);
  peer.trying = false;
  peer.pending = 0;
  peer.ready.clear();
}

void TcpSetup::joined(Peer& peer, std::uint8_t channel, std::uint64_t incarnation, ReadyLink link) {
  if (peer.pending != incarnation || channel == kControlChannel) {
    // Every attempt begins with the control channel. The side that was called waits longer than the
    // caller tries, so that the two agree whether an attempt succeeded.
    peer.ready.clear();
    peer.pending = incarnation;
    peer.pending_deadline = Clock::now() + (calls(peer) ? 1 : 2) * config_.handshake_timeout;
  }
  peer.ready.insert_or_assign(channel, std::move(link));
  if (peer.ready.size() == gates_.size()) return hand_over(peer);
  if (calls(peer) && channel == kControlChannel) {
    for (const auto& [number, gate] : gates_) {
      if (number == kControlChannel) continue;
      connect(peer, number);
      if (peer.pending == 0) return;  // the attempt failed at once and was abandoned
    }
  }
}

void TcpSetup::hand_over(Peer& peer) {
  if (peer.current != 0) peer.refused.add(peer.current);
  peer.current = peer.pending;
  // First, so that whoever hears of the peer from a channel finds it connected here.
  set_status(peer, PeerState::kConnected, "incarnation " + std::to_string(peer.current));
  // In the order of gates_, control last: whoever hears of the peer on the control channel finds it
  // on every shard.
  for (auto& [number, link] : peer.ready) {
    gates_.at(number)->attach(
        {peer.address.node, peer.current, std::move(link.socket), link.verbs});
  }
  abandon(peer);  // probes and repeated calls have no use any more
  peer.addresses.clear();
  peer.backoff = {};
}

void TcpSetup::on_break(const LinkBreak& link_break) {
  Peer& peer = peers_[link_break.peer.value()];
  if (peer.current == 0 || peer.current != link_break.incarnation) return;
  peer.refused.add(peer.current);
  peer.current = 0;
  for (const auto& [number, gate] : gates_) gate->cut(link_break);
  set_status(peer, PeerState::kConnecting,
             std::string(to_string(link_break.reason)) + ": " + link_break.detail);
  peer.backoff = {};
  peer.next_try = Clock::now();
}

void TcpSetup::set_status(Peer& peer, PeerState state, const std::string& detail) {
  const PeerState before = board_->set(peer.address.node, {state, peer.current, detail});
  if (before == state) {
    spdlog::debug("{} still {}: {}", peer.name, to_string(state), detail);
    return;
  }
  switch (state) {
    case PeerState::kConnected:
      spdlog::info("{} connected: {}", peer.name, detail);
      break;
    case PeerState::kConnecting:
      if (before == PeerState::kConnected) {
        spdlog::warn("{} down: {}", peer.name, detail);
      } else {
        spdlog::debug("{} connecting: {}", peer.name, detail);
      }
      break;
    case PeerState::kRefused:
      spdlog::info("{}: no gobd is running there ({}); will keep trying", peer.name, detail);
      break;
    case PeerState::kUnreachable:
      spdlog::warn("{} unreachable ({}); will keep trying", peer.name, detail);
      break;
  }
}

}  // namespace gob
