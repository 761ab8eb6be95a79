// Pulse: which peers have stopped speaking although their kernels answer: a gobd that is stopped or
// hangs keeps its sockets open, and TCP finds nothing wrong with them. Each node says a word to each
// peer several times within the limit; anything that a peer says counts. The time is the caller's.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "libgob/base/ids.h"

namespace gob {

class Pulse {
 public:
  static constexpr std::uint64_t kWordsWithinLimit = 4;

  explicit Pulse(std::uint64_t limit_ms) : limit_ms_(limit_ms), interval_ms_(limit_ms / kWordsWithinLimit) {}

  void up(NodeId peer, std::uint64_t now_ms) {
    if (heard_.empty()) next_ms_ = now_ms + interval_ms_;
    heard_[peer] = now_ms;
  }
  void down(NodeId peer) { heard_.erase(peer); }
  void heard(NodeId peer, std::uint64_t now_ms) {
    if (const auto found = heard_.find(peer); found != heard_.end()) found->second = now_ms;
  }

  // When to call tick().
  [[nodiscard]] std::optional<std::uint64_t> next_wakeup() const {
    return heard_.empty() ? std::nullopt : std::optional(next_ms_);
  }
  // Null: it is not yet time. Otherwise each peer wants a word now, and those of the answer have been
  // silent for longer than the limit.
  [[nodiscard]] std::optional<std::vector<NodeId>> tick(std::uint64_t now_ms) {
    if (heard_.empty() || now_ms < next_ms_) return std::nullopt;
    // If this node itself was held up, what the peers said meanwhile has not been read yet.
    const std::uint64_t late_ms = now_ms - next_ms_;
    next_ms_ = now_ms + interval_ms_;
    std::vector<NodeId> silent;
    for (auto& [peer, at] : heard_) {
      if (at < now_ms - late_ms) at += late_ms;
      if (now_ms > at + limit_ms_) silent.push_back(peer);
    }
    return silent;
  }

 private:
  const std::uint64_t limit_ms_, interval_ms_;
  std::uint64_t next_ms_ = 0;
  std::map<NodeId, std::uint64_t> heard_;  // when, of each peer that is up
};

}  // namespace gob
