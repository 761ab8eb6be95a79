// EventQueue: what happens next in a simulation. Events of one instant come in the order in which
// they were planned, so the same plans give the same run. One thread.
#pragma once

#include <cstdint>
#include <queue>
#include <utility>
#include <vector>

#include "gobbench/simulate/timing.h"

namespace gob::bench {

template <class Event>
class EventQueue {
 public:
  // Not before now().
  void plan(SimTime at, Event event) {
    heap_.push({at < now_ ? now_ : at, ++order_, std::move(event)});
  }
  [[nodiscard]] bool empty() const { return heap_.empty(); }
  // Takes the next event; the clock moves to it.
  Event take() {
    Event event = heap_.top().event;
    now_ = heap_.top().at;
    heap_.pop();
    return event;
  }
  [[nodiscard]] SimTime now() const { return now_; }
  [[nodiscard]] std::uint64_t planned() const { return order_; }

 private:
  struct Planned {
    SimTime at;
    std::uint64_t order;
    Event event;
    friend bool operator<(const Planned& a, const Planned& b) {
      return a.at != b.at ? a.at > b.at : a.order > b.order;  // the earliest is the top
    }
  };
  std::priority_queue<Planned> heap_;
  SimTime now_ = 0;
  std::uint64_t order_ = 0;
};

}  // namespace gob::bench
