#include "libgob/transport/tcp_channel.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "libgob/transport/socket.h"
#include "libgob/wire/frame.h"

namespace gob {
namespace {

constexpr std::size_t kMessagesPerPoll = 256;
constexpr int kEventsPerPoll = 64;
// Up to so many links poll() reads each socket at once, which is cheaper than to ask epoll first.
constexpr std::size_t kDirectLinks = 4;
// While corked, so much small output is worth a system call.
constexpr std::size_t kHoldBackBytes = std::size_t{64} * 1024;
// A lost link is read so many times more at most, for what the peer said before it was lost.
constexpr unsigned kDrainReads = 64;

std::string node_text(NodeId node) { return "node " + std::to_string(node.value()); }

}  // namespace

Result<std::unique_ptr<Channel>> TcpChannel::open(TcpChannelConfig config,
                                                  std::shared_ptr<LinkGate> gate,
                                                  std::shared_ptr<LinkObserver> observer) {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return system_error("peer channel: cannot make an epoll set");
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = nullptr;  // the gate
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, gate->fd(), &event) != 0) {
    return system_error("peer channel: cannot watch for new links");
  }
  return std::unique_ptr<Channel>(
      new TcpChannel(config, std::move(gate), std::move(observer), std::move(epoll)));
}

TcpChannel::TcpChannel(TcpChannelConfig config, std::shared_ptr<LinkGate> gate,
                       std::shared_ptr<LinkObserver> observer, UniqueFd epoll)
    : config_(config),
      gate_(std::move(gate)),
      observer_(std::move(observer)),
      epoll_(std::move(epoll)),
      links_(config.nodes),
      counters_(config.nodes) {}

TcpChannel::~TcpChannel() {
  gate_->close();
  for (const Link* link : active_) {
    observer_->on_link_broken(
        {link->peer, link->incarnation, DownReason::kLocal, "its channel was closed here"});
  }
}

TcpChannel::Link* TcpChannel::find(NodeId peer) const {
  return peer.value() < links_.size() ? links_[peer.value()].get() : nullptr;
}

// ---- output

Status TcpChannel::send(NodeId to, std::span<const std::byte> header,
                        std::span<const iovec> payload) {
  Link* link = find(to);
  if (link == nullptr && gate_->signalled()) {
    // Another channel of this node may have seen the peer come up before this one looked.
    adopt();
    link = find(to);
  }
  if (link == nullptr || link->draining) return not_sent(to, link);
  std::size_t payload_bytes = 0;
  for (const iovec& part : payload) payload_bytes += part.iov_len;
  if (header.size() > wire::kMaxHeaderBytes || payload_bytes > config_.max_payload ||
      payload.size() > kMaxPayloadParts) {
    return make_error(ErrorCode::kInvalidArgument,
                      "send to " + node_text(to) + ": a message of " +
                          std::to_string(header.size()) + " + " + std::to_string(payload_bytes) +
                          " bytes in " + std::to_string(payload.size()) +
                          " parts is beyond the limits of the channel");
  }

  std::array<std::byte, wire::kPrefixBytes> prefix;
  wire::encode_prefix(
      {static_cast<std::uint32_t>(header.size()), static_cast<std::uint32_t>(payload_bytes)},
      prefix);
  std::array<iovec, 2 + kMaxPayloadParts> parts;
  parts[0] = {prefix.data(), prefix.size()};
  parts[1] = {const_cast<std::byte*>(header.data()), header.size()};
  std::copy(payload.begin(), payload.end(), parts.begin() + 2);
  const std::span<iovec> fresh(parts.data(), 2 + payload.size());

  bool taken;
  if (corked_ > 0 && payload_bytes == 0 && link->out.size() < kHoldBackBytes) {
    taken = keep(*link, fresh, 0);
    if (taken && !link->held_back && !link->watching_output) {
      link->held_back = true;
      held_back_.push_back(to);
    }
  } else {
    taken = transmit(*link, fresh);
  }
  if (!taken) return not_sent(to, link);
  PeerCounters& counters = counters_[to.value()];
  ++counters.messages_out;
  counters.bytes_out += prefix.size() + header.size() + payload_bytes;
  return {};
}

Error TcpChannel::not_sent(NodeId to, const Link* link) const {
  return make_error(ErrorCode::kUnavailable,
                    "send to " + node_text(to) + ": " +
                        (link == nullptr ? std::string("it is not connected") : link->detail));
}

bool TcpChannel::transmit(Link& link, std::span<iovec> fresh) {
  if (link.watching_output && !fresh.empty()) return keep(link, fresh, 0);

  std::array<iovec, 1 + 2 + kMaxPayloadParts> parts;
  std::size_t count = 0;
  const std::size_t queued = link.out.size();
  if (queued > 0) {
    const auto front = link.out.front();
    parts[count++] = {const_cast<std::byte*>(front.data()), front.size()};
  }
  for (const iovec& part : fresh) parts[count++] = part;
  if (count == 0) return true;

  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = count;
  ssize_t sent;
  do {
    sent = ::sendmsg(link.socket.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0 && errno != EAGAIN && errno != ENOBUFS) {
    const int error = errno;
    begin_drain(link, down_reason(error), std::string("sending failed: ") + std::strerror(error));
    return false;
  }
  const std::size_t written = sent < 0 ? 0 : static_cast<std::size_t>(sent);
  link.out.consume(std::min(written, queued));
  const std::size_t fresh_written = written > queued ? written - queued : 0;
  if (!keep(link, fresh, fresh_written)) return false;
  watch_output(link, !link.out.empty());
  return true;
}

bool TcpChannel::keep(Link& link, std::span<const iovec> parts, std::size_t skip) {
  std::size_t bytes = 0;
  for (const iovec& part : parts) bytes += part.iov_len;
  if (bytes <= skip) return true;
  if (link.out.size() + (bytes - skip) > config_.max_queued_bytes) {
    break_link(link, DownReason::kLocal,
               "it does not take its messages: more than " +
                   std::to_string(config_.max_queued_bytes) + " bytes would wait for it",
               true);
    return false;
  }
  for (const iovec& part : parts) {
    const std::size_t gone = std::min(skip, part.iov_len);
    skip -= gone;
    link.out.append({static_cast<const std::byte*>(part.iov_base) + gone, part.iov_len - gone});
  }
  return true;
}

void TcpChannel::uncork() {
  if (corked_ == 0 || --corked_ > 0) return;
  // transmit() may break links, which never adds to held_back_.
  for (const NodeId peer : held_back_) {
    Link* link = find(peer);
    if (link == nullptr || !link->held_back) continue;
    link->held_back = false;
    if (!link->draining && !link->watching_output) transmit(*link, {});
  }
  held_back_.clear();
}

void TcpChannel::watch_output(Link& link, bool on) {
  if (link.watching_output == on) return;
  link.watching_output = on;
  epoll_event event{};
  event.events = EPOLLIN | (on ? EPOLLOUT : 0u);
  event.data.ptr = &link;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, link.socket.get(), &event) != 0) {
    break_link(link, DownReason::kLocal,
               std::string("cannot watch its socket: ") + std::strerror(errno), true);
  }
}

// ---- input

std::size_t TcpChannel::poll(ChannelSink& sink) {
  graveyard_.clear();
  if (gate_->signalled()) adopt();
  notify(sink);

  visiting_.clear();
  visiting_.swap(revisit_);
  for (Link* link : visiting_) link->revisit = false;
  if (active_.size() <= kDirectLinks) {
    visiting_ = active_;
    // No peer is always first.
    turn_ = turn_ + 1 < visiting_.size() ? turn_ + 1 : 0;
    std::rotate(visiting_.begin(), visiting_.begin() + static_cast<std::ptrdiff_t>(turn_),
                visiting_.end());
  } else {
    std::array<epoll_event, kEventsPerPoll> events;
    const int ready = ::epoll_wait(epoll_.get(), events.data(), kEventsPerPoll, 0);
    for (int i = 0; i < ready; ++i) {
      auto* link = static_cast<Link*>(events[static_cast<std::size_t>(i)].data.ptr);
      if (link != nullptr) visiting_.push_back(link);  // a link visited twice finds nothing new
    }
  }
  std::size_t budget = kMessagesPerPoll;
  for (Link* link : visiting_) pump(*link, sink, budget);
  notify(sink);
  return kMessagesPerPoll - budget;
}

void TcpChannel::pump(Link& link, ChannelSink& sink, std::size_t& budget) {
  if (link.broken) return;
  if (link.watching_output && !link.draining && !transmit(link, {})) return;
  deliver(link, sink, budget);
  if (link.broken) return;
  if (budget == 0) {
    // Its socket, if not empty, keeps fd() readable; frames that are here already do not.
    if (link.in.ready() || link.draining) revisit(link);
    return;
  }
  const auto room = link.in.writable();
  ssize_t got;
  do {
    got = ::recv(link.socket.get(), room.data(), room.size(), MSG_DONTWAIT);
  } while (got < 0 && errno == EINTR);
  if (got > 0) {
    link.in.commit(static_cast<std::size_t>(got));
    deliver(link, sink, budget);
    if (link.broken) return;
    if (link.draining && ++link.drained_reads > kDrainReads) {
      break_link(link, link.reason, link.detail, true);
    } else if (link.draining || link.in.ready()) {
      revisit(link);
    }
    return;
  }
  if (link.draining) {
    break_link(link, link.reason, link.detail, true);
  } else if (got == 0) {
    break_link(link, DownReason::kClosed, "the peer closed the connection", true);
  } else if (errno != EAGAIN) {
    const int error = errno;
    break_link(link, down_reason(error), std::string("receiving failed: ") + std::strerror(error),
               true);
  }
}

void TcpChannel::deliver(Link& link, ChannelSink& sink, std::size_t& budget) {
  ReceiveBuffer::Frame frame;
  while (budget > 0) {
    switch (link.in.next(frame)) {
      case ReceiveBuffer::Next::kPartial:
        return;
      case ReceiveBuffer::Next::kBad:
        break_link(link, DownReason::kProtocol, "it sent a frame beyond the limits of the channel",
                   true);
        return;
      case ReceiveBuffer::Next::kFrame: {
        --budget;
        PeerCounters& counters = counters_[link.peer.value()];
        ++counters.messages_in;
        counters.bytes_in += wire::kPrefixBytes + frame.header.size() + frame.payload.size();
        sink.on_message(link.peer, frame.header, frame.payload);
        if (link.broken) return;
        break;
      }
    }
  }
}

// ---- links come and go

void TcpChannel::adopt() {
  LinkGate::Taken taken = gate_->take();
  for (LinkBreak& cut : taken.cuts) {
    Link* link = find(cut.peer);
    if (link == nullptr || link->incarnation != cut.incarnation) continue;
    if (cut.reason == DownReason::kLocal || cut.reason == DownReason::kProtocol) {
      break_link(*link, cut.reason, std::move(cut.detail), false);
    } else {
      begin_drain(*link, cut.reason, std::move(cut.detail));
    }
  }
  for (NewLink& link : taken.links) attach(std::move(link));
}

void TcpChannel::attach(NewLink fresh) {
  if (fresh.peer.value() >= links_.size()) return;
  if (Link* old = find(fresh.peer)) {
    break_link(*old, DownReason::kReset, "another process took the peer's place", false);
  }
  auto link = std::make_unique<Link>(config_.max_payload);
  link->peer = fresh.peer;
  link->incarnation = fresh.incarnation;
  link->socket = std::move(fresh.socket);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = link.get();
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, link->socket.get(), &event) != 0) {
    observer_->on_link_broken({link->peer, link->incarnation, DownReason::kLocal,
                               std::string("cannot watch its socket: ") + std::strerror(errno)});
    return;
  }
  notices_.push_back(Up{link->peer, link->incarnation});
  active_.push_back(link.get());
  links_[fresh.peer.value()] = std::move(link);
  // Ups and downs adopted inside send() reach the sink by the next poll().
  gate_->wake();
}

void TcpChannel::begin_drain(Link& link, DownReason reason, std::string detail) {
  if (link.draining) return;
  link.draining = true;
  link.reason = reason;
  link.detail = std::move(detail);
  revisit(link);
}

void TcpChannel::revisit(Link& link) {
  if (!link.revisit) revisit_.push_back(&link);
  link.revisit = true;
  gate_->wake();
}

void TcpChannel::break_link(Link& link, DownReason reason, std::string detail, bool report) {
  if (link.broken) return;
  link.broken = true;
  link.reason = reason;
  link.detail = std::move(detail);
  link.socket.reset();  // leaves the epoll set with its last reference
  const LinkBreak notice{link.peer, link.incarnation, link.reason, link.detail};
  if (report) observer_->on_link_broken(notice);
  notices_.push_back(notice);
  std::erase(active_, &link);
  std::erase(revisit_, &link);
  graveyard_.push_back(std::move(links_[link.peer.value()]));
  gate_->wake();
}

void TcpChannel::drop(NodeId peer, DownReason reason, const std::string& detail) {
  if (find(peer) == nullptr && gate_->signalled()) adopt();
  if (Link* link = find(peer)) break_link(*link, reason, detail, true);
}

void TcpChannel::notify(ChannelSink& sink) {
  while (!notices_.empty()) {
    const Notice notice = std::move(notices_.front());
    notices_.pop_front();
    if (const auto* up = std::get_if<Up>(&notice)) {
      sink.on_up(up->peer, up->incarnation);
    } else {
      const auto& down = std::get<LinkBreak>(notice);
      sink.on_down(down.peer, down.reason, down.detail);
    }
  }
}

PeerCounters TcpChannel::counters(NodeId peer) const {
  return peer.value() < counters_.size() ? counters_[peer.value()] : PeerCounters{};
}

std::size_t TcpChannel::queued_bytes(NodeId peer) const {
  const Link* link = find(peer);
  return link == nullptr ? 0 : link->out.size();
}

}  // namespace gob
