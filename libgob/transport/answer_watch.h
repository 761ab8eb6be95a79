// AnswerWatch: whether the kernel at the other end of one TCP connection still answers, told from
// what this end's kernel knows of it. A gobd that does not read for a while closes its window, but
// its kernel goes on answering probes: that is no silence (0041). The time is the caller's.
#pragma once

#include <algorithm>
#include <chrono>

namespace gob {

class AnswerWatch {
 public:
  using Clock = std::chrono::steady_clock;
  using Milliseconds = std::chrono::milliseconds;

  struct Sample {
    Milliseconds since_heard{};  // anything at all from the other end
    Milliseconds since_sent{};   // data, for the first time or again
    bool unacknowledged = false;
    unsigned probes = 0;  // keepalive or window probes sent since it was heard
  };

  explicit AnswerWatch(Milliseconds limit) : limit_(limit) {}

  // How often to look().
  [[nodiscard]] static Milliseconds interval(Milliseconds limit) {
    return std::max(limit / kLooksWithinLimit, Milliseconds(1));
  }

  // True: it was asked for half the limit or longer (kLeastAsked at least), and has said nothing
  // for all of it.
  [[nodiscard]] bool look(const Sample& sample, Clock::time_point now) {
    // Data that an answer found no room for stays unacknowledged, but nothing was asked since.
    const bool asked =
        sample.probes > 0 || (sample.unacknowledged && sample.since_sent < sample.since_heard);
    const bool heard_since =
        sample.since_heard < std::chrono::duration_cast<Milliseconds>(now - last_look_) + kFuzz;
    if (!asked || !asked_before_ || heard_since) asked_since_ = now;
    asked_before_ = asked;
    last_look_ = now;
    // The kernel's probes of a closed window come seconds apart: silence between them is no
    // evidence.
    return asked && sample.since_heard >= limit_ &&
           now - asked_since_ >= std::max(limit_ / 2, kLeastAsked);
  }

 private:
  static constexpr int kLooksWithinLimit = 8;
  // Kernels answer what lies outside of a window once in 500 ms only (tcp_invalid_ratelimit). What
  // was asked 500 ms after an answer or sooner may get none, and is asked again within a second.
  static constexpr Milliseconds kLeastAsked{1100};
  static constexpr Milliseconds kFuzz{10};  // a tick of the kernel's clock

  const Milliseconds limit_;
  Clock::time_point last_look_{};
  Clock::time_point asked_since_{};
  bool asked_before_ = false;
};

}  // namespace gob
