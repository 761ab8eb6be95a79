// Links come and go.
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "libgob/transport/socket.h"
#include "libgob/transport/tcp_channel.h"
#include "libgob/transport/verbs_link.h"

namespace gob {

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
  auto link = std::make_unique<Link>(config_.max_payload, config_.peer_timeout);
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
  Link& attached = *link;
  active_.push_back(link.get());
  links_[fresh.peer.value()] = std::move(link);
  if (active_.size() == 1) next_silence_look_ = {};  // the timer rests without links
  if (fresh.verbs) {
    begin_agreeing(attached);
  } else {
    attached.why_tcp = config_.no_verbs;
    if (attached.why_tcp.empty()) {
      attached.why_tcp = "the other end offers no RDMA";
      spdlog::info("node {} is reached over TCP: {}", attached.peer.value(), attached.why_tcp);
    }
    announce(attached);
  }
  // Ups and downs adopted inside send() reach the sink by the next poll().
  gate_->wake();
}

void TcpChannel::announce(Link& link) {
  link.announced = true;
  notices_.push_back(Up{link.peer, link.incarnation});
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
  // What the silent peer has not heard must not reach it later: others may go on without it.
  if (reason == DownReason::kTimedOut) close_abruptly(link.socket.get());
  link.socket.reset();  // leaves the epoll set with its last reference
  const LinkBreak notice{link.peer, link.incarnation, link.reason, link.detail};
  if (report) observer_->on_link_broken(notice);
  if (link.announced) notices_.push_back(notice);
  if (link.out_way == Way::kVerbs) --on_verbs_;
  if (link.verbs != nullptr) by_verbs_id_.erase(link.verbs->id());
  std::erase(active_, &link);
  std::erase(revisit_, &link);
  std::erase(chunked_, &link);
  graveyard_.push_back(std::move(links_[link.peer.value()]));
  gate_->wake();
}

void TcpChannel::watch_silence() {
  const auto now = Clock::now();
  if (now < next_silence_look_) return;
  const auto interval = active_.empty() ? std::chrono::milliseconds::zero()
                                        : AnswerWatch::interval(config_.peer_timeout);
  next_silence_look_ = active_.empty() ? Clock::time_point::max() : now + interval;
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(interval);
  const itimerspec next{{},
                        {seconds.count(), std::chrono::nanoseconds(interval - seconds).count()}};
  // Cannot fail: a timer of our own and a sound time, 0 to stop it. Takes back that it is readable.
  ::timerfd_settime(silence_timer_.get(), 0, &next, nullptr);
  for (Link* link : active_) {
    if (link->draining) continue;
    const AnswerWatch::Sample sample = sample_answers(link->socket.get());
    if (!link->answers.look(sample, now)) continue;
    begin_drain(*link, DownReason::kTimedOut,
                "its kernel has not answered for " + std::to_string(sample.since_heard.count()) +
                    " ms (peer_timeout_ms is " + std::to_string(config_.peer_timeout.count()) +
                    "): the machine or the network is down");
  }
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

PathInfo TcpChannel::path(NodeId peer) const {
  PathInfo info;
  if (const Link* link = find(peer)) {
    if (link->out_way == Way::kVerbs) {
      info = link->verbs->info();
    } else {
      info.transport = "tcp";
      info.reason = link->out_way == Way::kAgreeing ? "not agreed on yet" : link->why_tcp;
    }
  }
  if (const auto counted = fall_backs_.find(peer); counted != fall_backs_.end()) {
    info.fall_backs = counted->second;
  }
  return info;
}

}  // namespace gob
