// RDMA or TCP: what the two ends of a link agree on, and how a link goes from RDMA to TCP.
//
// Each end says one record, an offer or a refusal; after two offers each connects its queue pair
// and says a second one, ready or a refusal. Two times ready means RDMA, all else TCP. Nobody sends
// a message before it knows.
//
// Later either end may fall back: it says so, with the number of the first frame that the other end
// has not acknowledged, and goes on from that frame over TCP. The other end drops the frames that
// it got over RDMA all the same, and falls back, too. So none is lost and none comes twice.
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "libgob/transport/tcp_channel.h"
#include "libgob/transport/verbs_link.h"

namespace gob {

bool TcpChannel::say(Link& link, const VerbsRecord& record) {
  const std::vector<std::byte> bytes = encode(record);
  // The socket is young and its buffer empty: a record fits, or something is wrong with it.
  if (::send(link.socket.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL) ==
      static_cast<ssize_t>(bytes.size())) {
    return true;
  }
  break_link(link, DownReason::kReset,
             std::string("cannot tell it about RDMA: ") + std::strerror(errno), true);
  return false;
}

void TcpChannel::begin_agreeing(Link& link) {
  link.out_way = link.in_way = Way::kAgreeing;
  Status opened = open_queue();
  if (opened.ok()) {
    auto made = VerbsLink::create(*queue_, next_verbs_id_++);
    if (made.ok()) {
      link.verbs = std::move(*made);
      by_verbs_id_[link.verbs->id()] = &link;
      say(link, {.kind = VerbsRecordKind::kOffer, .offer = link.verbs->offer()});
      return;
    }
    opened = made.error();
  }
  link.why_tcp = opened.error().message();
  say(link, {.kind = VerbsRecordKind::kRefuse, .reason = link.why_tcp});
}

void TcpChannel::on_record(Link& link, const VerbsRecord& record) {
  ++link.records;
  if (record.kind == VerbsRecordKind::kRefuse) {
    return settle(link, false,
                  link.verbs == nullptr ? link.why_tcp : "the other end: " + record.reason);
  }
  const bool first = link.records == 1;
  if (record.kind != (first ? VerbsRecordKind::kOffer : VerbsRecordKind::kReady)) {
    return break_link(link, DownReason::kProtocol, "what it says about RDMA is out of order", true);
  }
  if (link.verbs == nullptr) return settle(link, false, link.why_tcp);  // we refused
  if (!first) return settle(link, link.ready, link.why_tcp);
  if (const Status connected = link.verbs->connect(record.offer); connected.ok()) {
    link.ready = say(link, {.kind = VerbsRecordKind::kReady});
  } else {
    link.why_tcp = connected.error().message();
    say(link, {.kind = VerbsRecordKind::kRefuse, .reason = link.why_tcp});
  }
}

void TcpChannel::settle(Link& link, bool verbs, const std::string& why_tcp) {
  link.out_way = link.in_way = verbs ? Way::kVerbs : Way::kTcp;
  announce(link);
  if (verbs) {
    ++on_verbs_;
    spdlog::info("node {} is reached over RDMA ({})", link.peer.value(),
                 device_ == nullptr ? "lost" : device_->describe());
    return advance(link);
  }
  link.why_tcp = why_tcp;
  spdlog::warn("node {} is reached over TCP, not RDMA: {}", link.peer.value(), why_tcp);
  if (link.verbs != nullptr) by_verbs_id_.erase(link.verbs->id());
  link.verbs.reset();
  transmit(link, {});
}

void TcpChannel::fall_back(Link& link, const std::string& why, bool theirs) {
  if (link.out_way != Way::kVerbs || link.broken) return;
  if (link.verbs->violated()) return break_link(link, DownReason::kProtocol, why, true);
  link.out_way = Way::kTcp;
  link.why_tcp = "RDMA failed: " + why;
  --on_verbs_;
  ++fall_backs_[link.peer];
  if (!closing_) {
    // The end where it began warns. To the other it may be no more than a peer that is leaving.
    spdlog::log(theirs ? spdlog::level::info : spdlog::level::warn,
                "node {}: RDMA ended ({}); messages go on over TCP", link.peer.value(), why);
  }
  by_verbs_id_.erase(link.verbs->id());

  std::vector<std::span<const std::byte>> chunks;
  VerbsRecord record{.kind = VerbsRecordKind::kFallBack, .reason = why};
  record.first_frame = link.verbs->sent().unacknowledged(
      [&](std::span<const std::byte> chunk) { chunks.push_back(chunk); });
  SendQueue out;
  out.append(encode(record));
  for (const auto& chunk : chunks) out.append(chunk);
  if (!link.out.empty()) out.append(link.out.front());
  link.out = std::move(out);
  link.held_back = false;
  link.verbs->shut();
  if (!link.draining) transmit(link, {});
}

void TcpChannel::on_fall_back(Link& link, const VerbsRecord& record) {
  if (record.kind != VerbsRecordKind::kFallBack) {
    return break_link(link, DownReason::kProtocol, "what it says about RDMA is out of order", true);
  }
  fall_back(link, "the other end: " + record.reason, true);
  if (link.broken) return;
  link.in_way = Way::kReplay;
  link.replay_from = record.first_frame;
}

// The device is lost: nothing may hold it any longer.
void TcpChannel::leave_device() {
  for (Link* link : std::vector<Link*>(active_)) {
    if (link->broken || link->verbs == nullptr) continue;
    fall_back(*link, "the device is gone");
    if (!link->broken && link->verbs != nullptr) link->verbs->shut();
  }
  graveyard_.clear();
  be_busy(false);
  queue_.reset();
  device_.reset();
}

}  // namespace gob
