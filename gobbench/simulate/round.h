// Round: what one thread of a simulated gobd does between two sleeps, as it goes on: the time that
// passes, and the packets that leave. Small messages to one peer leave together, as a corked
// channel sends them (libgob/transport/channel.h). Values; one thread.
#pragma once

#include <functional>
#include <vector>

#include "gobbench/simulate/timing.h"
#include "libgob/protocol/message.h"
#include "libgob/sync/sync_message.h"

namespace gob::bench {

// What one send() of a thread hands to the network.
struct Packet {
  NodeId from;
  NodeId to;
  std::size_t bytes = 0;
  std::vector<Message> messages;  // to the peer's shard, in order
  std::vector<SyncMessage> sync;  // or to its control thread
};

class Round {
 public:
  struct Departure {
    SimTime at;
    Packet packet;
  };

  // Whether the program of a node computes on the only core there is for its gobd.
  using Computes = std::function<bool(NodeId)>;

  Round(const Timing& timing, NodeId self, SimTime begin, const Computes* computes = nullptr)
      : timing_(timing), self_(self), begin_(begin), now_(begin), computes_(computes) {}

  void work(SimTime ns) { now_ += ns; }
  void work_us(double us) { now_ += to_ns(us); }
  void send(NodeId to, const Message& message);
  // `bytes`: of the whole frame.
  void send(NodeId to, const SyncMessage& message, std::size_t bytes);
  // What was held back leaves now.
  void finish();

  [[nodiscard]] SimTime begin() const { return begin_; }
  [[nodiscard]] SimTime now() const { return now_; }
  [[nodiscard]] std::vector<Departure>& departures() { return departures_; }

 private:
  void depart(Packet packet);

  const Timing& timing_;
  NodeId self_;
  SimTime begin_;
  SimTime now_;
  const Computes* computes_;  // null: nobody does
  std::vector<Packet> held_back_;
  std::vector<Departure> departures_;
};

}  // namespace gob::bench
