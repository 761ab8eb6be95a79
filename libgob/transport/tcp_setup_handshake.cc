// One connection from its first byte until it is a link. Whatever a stranger sends ends here: in a
// log line for its address and a closed connection.
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "libgob/transport/tcp_setup.h"

namespace gob {

void TcpSetup::on_half(HalfId id) {
  const auto found = halves_.find(id);
  if (found == halves_.end()) return;  // removed by an earlier event of the same turn
  if (found->second.stage == Half::Stage::kConnecting) {
    on_connected(id, found->second);
  } else {
    on_hello_bytes(id, found->second);
  }
}

void TcpSetup::on_connected(HalfId id, Half& half) {
  Peer& peer = peers_[half.peer.value()];
  const ConnectOutcome outcome = connect_outcome(half.socket.get());
  if (outcome.errno_value != 0) {
    remove_half(id);
    connect_failed(peer, outcome);
    return;
  }
  if (half.probe) {
    remove_half(id);
    set_status(peer, PeerState::kConnecting, "it listens and is expected to call");
    peer.trying = false;
    next_round(peer);
    return;
  }
  if (peer.ready.empty()) set_status(peer, PeerState::kConnecting, "shaking hands");
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = id;
  half.stage = Half::Stage::kAwaitReply;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, half.socket.get(), &event) != 0 ||
      !say(half, HelloKind::kHello)) {
    give_up(id, std::string("cannot send a hello: ") + std::strerror(errno));
  }
}

void TcpSetup::on_hello_bytes(HalfId id, Half& half) {
  // Exactly a hello and no more: what follows belongs to the link.
  const ssize_t got = ::recv(half.socket.get(), half.in.data() + half.in_bytes,
                             half.in.size() - half.in_bytes, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got < 0) return give_up(id, std::string("receiving failed: ") + std::strerror(errno));
  if (got == 0) return give_up(id, "it closed the connection before it said who it is");
  half.in_bytes += static_cast<std::size_t>(got);

  const std::span<const std::byte> heard(half.in.data(), half.in_bytes);
  if (!begins_like_hello(heard)) return refuse(id, half, HelloFault::kMagic, {});
  if (half.in_bytes < half.in.size()) return;
  Hello hello;
  if (const HelloFault fault = decode(half.in, hello); fault != HelloFault::kNone) {
    return refuse(id, half, fault, hello);
  }
  half.in_bytes = 0;
  on_hello(id, half, hello);
}

void TcpSetup::on_hello(HalfId id, Half& half, const Hello& hello) {
  if (hello.kind == HelloKind::kReject) {
    if (hello.reason != HelloFault::kAlreadyConnected) {  // it has not noticed a break yet
      warn_once(
          host_of(half.address) + " rejects " + std::to_string(static_cast<int>(hello.reason)) +
              " " + std::to_string(hello.incarnation),
          to_string(half.address) + " refuses this node: " + describe(hello.reason, hello, rules_));
    }
    return give_up(id, "it refuses this node");
  }
  if (const HelloFault fault = judge(half, hello); fault != HelloFault::kNone) {
    return refuse(id, half, fault, hello);
  }
  half.incarnation = hello.incarnation;
  if (hello.kind == HelloKind::kHello) half.verbs = hello.verbs;
  if (half.stage == Half::Stage::kAwaitHello) {
    half.peer = hello.node;
    half.channel = hello.channel;
    half.stage = Half::Stage::kAwaitConfirm;
    // Longer than the caller waits for our answer, so that the two agree on the outcome.
    half.deadline = Clock::now() + 2 * config_.handshake_timeout;
    if (!say(half, HelloKind::kHello)) give_up(id, "cannot answer its hello");
    return;
  }
  if (half.stage == Half::Stage::kAwaitReply && !say(half, HelloKind::kConfirm)) {
    return give_up(id, "cannot confirm its hello");
  }
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, half.socket.get(), nullptr);
  // Control messages are few and may be large: their link stays with TCP.
  ReadyLink link{std::move(half.socket),
                 half.offers_verbs && half.verbs && half.channel != kControlChannel};
  const NodeId peer = half.peer;
  const std::uint8_t channel = half.channel;
  remove_half(id);
  joined(peers_[peer.value()], channel, hello.incarnation, std::move(link));
}

HelloFault TcpSetup::judge(const Half& half, const Hello& hello) const {
  if (const HelloFault fault = check(hello, rules_); fault != HelloFault::kNone) return fault;
  const bool first = half.stage == Half::Stage::kAwaitHello;
  const HelloKind expected =
      half.stage == Half::Stage::kAwaitConfirm ? HelloKind::kConfirm : HelloKind::kHello;
  if (hello.kind != expected) return HelloFault::kMalformed;
  if (first && hello.node < config_.self) return HelloFault::kDirection;
  if (!first && hello.node != half.peer) return HelloFault::kNode;
  if (!first && hello.channel != half.channel) return HelloFault::kChannel;
  if (!first && hello.target_incarnation != rules_.incarnation) return HelloFault::kIncarnation;
  if (half.incarnation != 0 && hello.incarnation != half.incarnation) {
    return HelloFault::kIncarnation;
  }
  const Peer& peer = peers_[hello.node.value()];
  if (peer.refused.has(hello.incarnation)) return HelloFault::kLinkLost;
  if (peer.current == hello.incarnation) return HelloFault::kAlreadyConnected;
  return HelloFault::kNone;
}

bool TcpSetup::say(Half& half, HelloKind kind, HelloFault reason) {
  if (kind == HelloKind::kHello) {
    half.offers_verbs = device_ != nullptr;
  }
  const Hello hello{.kind = kind,
                    .channel = half.channel,
                    .shards = rules_.shards,
                    .reason = reason,
                    .verbs = half.offers_verbs,
                    .node = config_.self,
                    .target = half.peer,
                    .cluster = rules_.cluster,
                    .incarnation = rules_.incarnation,
                    .target_incarnation = half.incarnation};
  std::array<std::byte, kHelloBytes> bytes;
  encode(hello, bytes);
  // The socket is young and its buffer empty: a hello fits, or something is wrong with it.
  return ::send(half.socket.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL) ==
         static_cast<ssize_t>(bytes.size());
}

void TcpSetup::refuse(HalfId id, Half& half, HelloFault fault, const Hello& hello) {
  // A node that lost its link knocks until it is restarted: one line for each of its incarnations.
  std::string key = host_of(half.address) + " fault " + std::to_string(static_cast<int>(fault));
  if (fault == HelloFault::kLinkLost) key += " " + std::to_string(hello.incarnation);
  if (fault != HelloFault::kAlreadyConnected) {
    warn_once(key,
              "peer at " + to_string(half.address) + " refused: " + describe(fault, hello, rules_));
  }
  // Strangers get no answer.
  if (fault != HelloFault::kMagic && fault != HelloFault::kVersion) {
    if (half.peer == kNoNode) half.peer = hello.node;
    [[maybe_unused]] const bool told = say(half, HelloKind::kReject, fault);
  }
  give_up(id, "refused");
}

void TcpSetup::give_up(HalfId id, const std::string& why) {
  const auto found = halves_.find(id);
  if (found == halves_.end()) return;
  Half& half = found->second;
  spdlog::debug("connection {} {}: {}", half.ours ? "to" : "from", to_string(half.address), why);
  if (!half.ours) return remove_half(id);
  Peer& peer = peers_[half.peer.value()];
  set_status(peer, PeerState::kConnecting, to_string(half.address) + ": " + why);
  abandon(peer);
  next_round(peer);
}

}  // namespace gob
