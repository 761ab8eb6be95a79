// Output, and the turn of poll().
#include "libgob/transport/tcp_channel.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "libgob/transport/socket.h"
#include "libgob/transport/tcp_channel_limits.h"
#include "libgob/transport/verbs_link.h"
#include "libgob/wire/frame.h"

namespace gob {
namespace {

std::string node_text(NodeId node) { return "node " + std::to_string(node.value()); }

Status watch_input(int epoll, int fd, const char* what) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = nullptr;  // no link
  if (::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0) return {};
  return system_error(std::string("peer channel: cannot watch ") + what);
}

}  // namespace

TcpChannel::Link::Link(std::size_t max_payload, std::chrono::milliseconds peer_timeout)
    : answers(peer_timeout), in(max_payload) {}
TcpChannel::Link::~Link() = default;

Result<std::unique_ptr<Channel>> TcpChannel::open(TcpChannelConfig config,
                                                  std::shared_ptr<LinkGate> gate,
                                                  std::shared_ptr<LinkObserver> observer,
                                                  std::shared_ptr<VerbsDevice> device) {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return system_error("peer channel: cannot make an epoll set");
  UniqueFd busy(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!busy) return system_error("peer channel: cannot make an eventfd");
  UniqueFd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
  if (!timer) return system_error("peer channel: cannot make a timer");
  for (const auto& [fd, what] :
       {std::pair(gate->fd(), "for new links"), std::pair(busy.get(), "its own eventfd"),
        std::pair(timer.get(), "its timer")}) {
    if (Status watched = watch_input(epoll.get(), fd, what); !watched) return watched.error();
  }
  return std::unique_ptr<Channel>(
      new TcpChannel(std::move(config), std::move(gate), std::move(observer), std::move(device),
                     std::move(epoll), std::move(busy), std::move(timer)));
}

TcpChannel::TcpChannel(TcpChannelConfig config, std::shared_ptr<LinkGate> gate,
                       std::shared_ptr<LinkObserver> observer, std::shared_ptr<VerbsDevice> device,
                       UniqueFd epoll, UniqueFd busy, UniqueFd silence_timer)
    : config_(std::move(config)),
      gate_(std::move(gate)),
      observer_(std::move(observer)),
      epoll_(std::move(epoll)),
      silence_timer_(std::move(silence_timer)),
      links_(config_.nodes),
      counters_(config_.nodes),
      device_(std::move(device)),
      busy_event_(std::move(busy)) {}

TcpChannel::~TcpChannel() {
  gate_->close();
  closing_ = true;
  // What the device has not delivered yet is left to the kernel, as all output of a closed link is.
  for (Link* link : std::vector<Link*>(active_)) fall_back(*link, "its channel was closed there");
  for (const Link* link : active_) {
    observer_->on_link_broken(
        {link->peer, link->incarnation, DownReason::kLocal, "its channel was closed here"});
  }
  // They use the queue.
  links_.clear();
  graveyard_.clear();
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
  const std::size_t bytes = prefix.size() + header.size() + payload_bytes;
  const bool hold = corked_ > 0 && payload_bytes == 0;
  if (!send_frame(*link, std::span(parts.data(), 2 + payload.size()), bytes, hold)) {
    return not_sent(to, link);
  }
  PeerCounters& counters = counters_[to.value()];
  ++counters.messages_out;
  counters.bytes_out += bytes;
  return {};
}

Error TcpChannel::not_sent(NodeId to, const Link* link) const {
  return make_error(ErrorCode::kUnavailable,
                    "send to " + node_text(to) + ": " +
                        (link == nullptr ? std::string("it is not connected") : link->detail));
}

// False if the link can take no more; then it is broken or draining.
bool TcpChannel::send_frame(Link& link, std::span<iovec> fresh, std::size_t bytes, bool hold) {
  switch (link.out_way) {
    case Way::kTcp:
      if (!hold || link.out.size() >= kHoldBackBytes) return transmit(link, fresh);
      if (!keep(link, fresh, 0)) return false;
      if (!link.watching_output) hold_back(link);
      return true;
    case Way::kVerbs:
      if (!link.out.empty() || !link.verbs->put(fresh, bytes)) {
        if (!keep(link, fresh, 0)) return false;
      } else if (hold && link.verbs->sent().open_bytes() < kHoldBackBytes) {
        hold_back(link);
      } else {
        link.verbs->post();
        note_traffic();
      }
      if (link.verbs->failed()) fall_back(link, link.verbs->failure());
      return !link.broken && !link.draining;
    case Way::kAgreeing:
    case Way::kReplay:
      return keep(link, fresh, 0);
  }
  return false;
}

void TcpChannel::hold_back(Link& link) {
  if (link.held_back) return;
  link.held_back = true;
  held_back_.push_back(link.peer);
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
  // Neither of these adds to held_back_, but both may break links.
  for (const NodeId peer : held_back_) {
    Link* link = find(peer);
    if (link == nullptr || !link->held_back) continue;
    link->held_back = false;
    if (link->draining) continue;
    if (link->out_way == Way::kVerbs) {
      advance(*link);
    } else if (link->out_way == Way::kTcp && !link->watching_output) {
      transmit(*link, {});
    }
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

// ---- the turn

std::size_t TcpChannel::poll(ChannelSink& sink) {
  graveyard_.clear();
  if (gate_->signalled()) adopt();
  if (device_ != nullptr && device_->lost()) leave_device();
  watch_silence();
  const bool found = collect();
  notify(sink);

  choose_visits(!found && !busy_);
  std::size_t budget = kMessagesPerPoll;
  std::vector<Link*> chunked;
  chunked.swap(chunked_);
  for (Link* link : chunked) link->has_chunks = false;
  for (Link* link : chunked) {
    if (!link->broken) deliver(*link, sink, budget);
    if (!link->broken && link->in.ready()) revisit(*link);  // it fell back, and budget is used up
  }
  for (Link* link : visiting_) pump(*link, sink, budget);
  notify(sink);
  rest(found);
  return kMessagesPerPoll - budget;
}

// `look`: nothing came over RDMA, so that it is time to see whether something came over sockets.
void TcpChannel::choose_visits(bool look) {
  visiting_.clear();
  visiting_.swap(revisit_);
  for (Link* link : visiting_) link->revisit = false;
  bool sockets = active_.size() > kDirectLinks && active_.size() > on_verbs_;
  if (active_.size() <= kDirectLinks) {
    std::erase_if(visiting_, [](const Link* link) { return link->out_way != Way::kVerbs; });
    const auto first = visiting_.size();
    for (Link* link : active_) {
      if (link->out_way != Way::kVerbs) visiting_.push_back(link);
    }
    // No peer is always first.
    const auto direct = visiting_.begin() + static_cast<std::ptrdiff_t>(first);
    const auto count = static_cast<std::size_t>(visiting_.end() - direct);
    turn_ = turn_ + 1 < count ? turn_ + 1 : 0;
    if (count > 0)
      std::rotate(direct, direct + static_cast<std::ptrdiff_t>(turn_), visiting_.end());
  }
  if (on_verbs_ > 0) {
    const auto now = Clock::now();
    if (look || now - last_look_ > kLookInterval) {
      last_look_ = now;
      sockets = true;
    }
  }
  if (!sockets) return;
  std::array<epoll_event, kEventsPerPoll> events;
  const int ready = ::epoll_wait(epoll_.get(), events.data(), kEventsPerPoll, 0);
  for (int i = 0; i < ready; ++i) {
    auto* link = static_cast<Link*>(events[static_cast<std::size_t>(i)].data.ptr);
    if (link != nullptr) visiting_.push_back(link);  // a link visited twice finds nothing new
  }
}

}  // namespace gob
