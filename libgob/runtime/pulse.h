// Pulse: which peers have stopped speaking although their kernels answer: a gobd that is stopped or
// hangs keeps its sockets open, and TCP finds nothing wrong with them. Each node says a word to
// each peer several times within the limit; anything that a peer says counts. And the other way
// round: whether a peer may have found this node to be such a one. The time is the caller's.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "libgob/base/ids.h"

namespace gob {

class Pulse {
 public:
  static constexpr std::uint64_t kWordsWithinLimit = 4;

  explicit Pulse(std::uint64_t limit_ms)
      : limit_ms_(limit_ms), interval_ms_(limit_ms / kWordsWithinLimit) {}

  void up(NodeId peer, std::uint64_t now_ms) {
    if (peers_.empty()) {
      next_ms_ = now_ms + interval_ms_;
      word_ms_ = word_before_ms_ = now_ms;
    }
    peers_[peer] = {now_ms, now_ms};
  }
  void down(NodeId peer) { peers_.erase(peer); }
  void heard(NodeId peer, std::uint64_t now_ms) {
    if (const auto found = peers_.find(peer); found != peers_.end())
      found->second.heard_ms = now_ms;
  }

  // True: when the link to this peer ended, the peer may have put this node out, which had not said
  // a word for the limit, and gone on without it. It is the word before the last one that counts:
  // that the link had ended may lie behind much else in the socket when a node that stood still
  // says its first word again, and is looked for as long again as the limit.
  [[nodiscard]] bool may_be_put_out(NodeId peer, std::uint64_t now_ms) const {
    const auto found = peers_.find(peer);
    if (found == peers_.end()) return false;
    if (found->second.up_ms < resumed_ms_ && now_ms < resumed_ms_ + limit_ms_) return true;
    return now_ms >= std::max(word_before_ms_, found->second.up_ms) + limit_ms_;
  }

  // When to call tick().
  [[nodiscard]] std::optional<std::uint64_t> next_wakeup() const {
    return peers_.empty() ? std::nullopt : std::optional(next_ms_);
  }
  // Null: it is not yet time. Otherwise each peer wants a word now, and those of the answer have
  // been silent for longer than the limit.
  [[nodiscard]] std::optional<std::vector<NodeId>> tick(std::uint64_t now_ms) {
    if (peers_.empty() || now_ms < next_ms_) return std::nullopt;
    // If this node itself was held up, what the peers said meanwhile has not been read yet.
    const std::uint64_t late_ms = now_ms - next_ms_;
    next_ms_ = now_ms + interval_ms_;
    word_before_ms_ = std::exchange(word_ms_, now_ms);
    if (now_ms >= word_before_ms_ + limit_ms_) resumed_ms_ = now_ms;
    std::vector<NodeId> silent;
    for (auto& [peer, times] : peers_) {
      std::uint64_t& at = times.heard_ms;
      if (at < now_ms - late_ms) at += late_ms;
      if (now_ms > at + limit_ms_) silent.push_back(peer);
    }
    return silent;
  }

 private:
  struct Times {
    std::uint64_t up_ms = 0;
    std::uint64_t heard_ms = 0;
  };
  const std::uint64_t limit_ms_, interval_ms_;
  std::uint64_t next_ms_ = 0;
  std::uint64_t word_ms_ = 0;         // when this node said its last word to its peers
  std::uint64_t word_before_ms_ = 0;  // and the one before
  std::uint64_t resumed_ms_ = 0;      // when it said one again, after the limit; 0: it always did
  std::map<NodeId, Times> peers_;     // that are up
};

}  // namespace gob
