#include "gobbench/simulate/round.h"

#include <algorithm>

#include "libgob/wire/frame.h"
#include "libgob/wire/page_header.h"

namespace gob::bench {

void Round::send(NodeId to, const Message& message) {
  const auto same_peer = [&](const Packet& packet) { return packet.to == to; };
  auto held = std::find_if(held_back_.begin(), held_back_.end(), same_peer);
  if (held == held_back_.end())
    held = held_back_.insert(held_back_.end(), Packet{self_, to, 0, {}, {}});
  held->bytes += wire::kPrefixBytes + wire::kPageHeaderBytes + wire::payload_bytes(message);
  held->messages.push_back(message);
  if (!carries_bytes(message)) return;
  Packet packet = std::move(*held);
  held_back_.erase(held);
  depart(std::move(packet));
}

void Round::send(NodeId to, const SyncMessage& message, std::size_t bytes) {
  depart(Packet{self_, to, bytes, {}, {message}});
}

void Round::finish() {
  for (Packet& packet : held_back_) depart(std::move(packet));
  held_back_.clear();
}

void Round::depart(Packet packet) {
  now_ += to_ns(timing_.send_us + static_cast<double>(packet.bytes) * timing_.byte_ns * 1e-3);
  const NodeId to = packet.to;
  departures_.push_back({now_, std::move(packet)});
  if (computes_ != nullptr && (*computes_)(to)) now_ += to_ns(timing_.kick_us);
}

}  // namespace gob::bench
