// Two protocol cores of one cluster, joined by nothing: messages are handed over at once, in order.
// For measuring the cores' own cost. One thread.
#pragma once

#include <array>
#include <deque>
#include <utility>

#include "libgob/protocol/core.h"

namespace gob::bench {

class CorePair {
 public:
  static constexpr ContainerId kContainer{1};
  static constexpr std::uint64_t kPages = 1u << 16;

  CorePair();

  // A program on node `node` touches a page: everything that follows, until both cores rest.
  void touch(unsigned node, PageIndex page, Access access);
  // True if a program on the node could do the access without a fault.
  [[nodiscard]] bool has(unsigned node, PageIndex page, Access access) const;
  [[nodiscard]] const Core& core(unsigned node) const { return cores_[node]; }

 private:
  void step(unsigned node, const Event& event);
  void run();

  std::array<Core, 2> cores_;
  Actions actions_;
  std::deque<std::pair<unsigned, event::Deliver>> in_flight_;
};

}  // namespace gob::bench
