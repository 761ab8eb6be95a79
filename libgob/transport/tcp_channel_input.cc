// Input: from a link's socket, from its ring, and from one after the other.
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "libgob/transport/socket.h"
#include "libgob/transport/tcp_channel.h"
#include "libgob/transport/tcp_channel_limits.h"
#include "libgob/transport/verbs_link.h"
#include "libgob/wire/frame.h"

namespace gob {

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
  // No more at a time than stays in a processor's cache until it is delivered.
  auto room = link.in.writable();
  room = room.first(std::min(room.size(), kReceiveBytes));
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
    receive_end(link, sink, budget);
  } else if (got == 0) {
    begin_drain(link, DownReason::kClosed, "the peer closed the connection");
    receive_end(link, sink, budget);
  } else if (errno != EAGAIN) {
    const int error = errno;
    begin_drain(link, down_reason(error), std::string("receiving failed: ") + std::strerror(error));
    receive_end(link, sink, budget);
  }
}

// The socket of a draining link has nothing more; what came over RDMA before it ended still counts.
void TcpChannel::receive_end(Link& link, ChannelSink& sink, std::size_t& budget) {
  if (link.out_way == Way::kVerbs) collect();
  deliver(link, sink, budget);
  if (link.broken) return;
  if (link.verbs != nullptr && link.verbs->has_input()) return revisit(link);
  break_link(link, link.reason, link.detail, true);
}

void TcpChannel::deliver(Link& link, ChannelSink& sink, std::size_t& budget) {
  ReceiveBuffer::Frame frame;
  for (;;) {
    // A chunk may be here before the peer's word that it has settled for RDMA.
    if (link.verbs != nullptr && link.in_way != Way::kAgreeing) {
      deliver_chunks(link, sink, budget);
      if (link.broken || !join_ways(link)) return;
    }
    if (budget == 0) return;
    switch (link.in.next(frame)) {
      case ReceiveBuffer::Next::kPartial:
        return;
      case ReceiveBuffer::Next::kBad:
        break_link(link, DownReason::kProtocol, "it sent a frame beyond the limits of the channel",
                   true);
        return;
      case ReceiveBuffer::Next::kFrame:
        break;
    }
    if (link.in_way == Way::kTcp) {
      if (link.skip > 0) {
        --link.skip;
        continue;
      }
      --budget;
      deliver_frame(link, sink, frame.header, frame.payload);
    } else {
      VerbsRecord record;
      if (!decode(frame.header, frame.payload, record)) {
        break_link(link, DownReason::kProtocol, "what it says about RDMA makes no sense", true);
      } else if (link.in_way == Way::kAgreeing) {
        on_record(link, record);
        notify(sink);  // the peer may be up now, and its first messages here already
      } else {
        on_fall_back(link, record);
      }
    }
    if (link.broken) return;
  }
}

void TcpChannel::deliver_frame(Link& link, ChannelSink& sink, std::span<const std::byte> header,
                               std::span<const std::byte> payload) {
  PeerCounters& counters = counters_[link.peer.value()];
  ++counters.messages_in;
  counters.bytes_in += wire::kPrefixBytes + header.size() + payload.size();
  sink.on_message(link.peer, header, payload);
}

void TcpChannel::deliver_chunks(Link& link, ChannelSink& sink, std::size_t& budget) {
  VerbsLink& verbs = *link.verbs;
  while (budget > 0 && verbs.has_input()) {
    const std::span<const std::byte> bytes = verbs.input();
    wire::Prefix prefix;
    if (bytes.size() >= wire::kPrefixBytes) {
      prefix = wire::decode_prefix(bytes.first<wire::kPrefixBytes>());
    }
    if (bytes.size() < prefix.frame_bytes() || !wire::acceptable(prefix, config_.max_payload)) {
      return break_link(link, DownReason::kProtocol,
                        "it sent a frame beyond the limits of the channel", true);
    }
    --budget;
    ++link.frames_in;
    deliver_frame(link, sink, bytes.subspan(wire::kPrefixBytes, prefix.header_bytes),
                  bytes.subspan(wire::kPrefixBytes + prefix.header_bytes, prefix.payload_bytes));
    if (link.broken) return;
    verbs.consume(prefix.frame_bytes());  // from here on the peer may write there again
  }
  if (link.out_way == Way::kVerbs) {
    verbs.acknowledge();
    if (verbs.failed()) fall_back(link, verbs.failure());
  }
  if (link.broken || !verbs.has_input() || link.has_chunks) return;
  link.has_chunks = true;
  chunked_.push_back(&link);
  gate_->wake();
}

// Goes from the ring to the socket once the ring is empty, if the peer has fallen back to TCP.
// False while frames of the socket must not be delivered yet.
bool TcpChannel::join_ways(Link& link) {
  if (link.verbs->has_input()) return false;
  if (link.in_way != Way::kReplay) return true;
  if (link.replay_from > link.frames_in) {
    break_link(link, DownReason::kProtocol, "it fell back to TCP and left out messages", true);
    return false;
  }
  link.skip = link.frames_in - link.replay_from;
  link.in_way = Way::kTcp;
  link.verbs.reset();
  return true;
}

}  // namespace gob
