// Core::Out: the actions of one step. Handlers speak of single pages; actions that are alike join
// into one over a run of pages, so that a run costs one message and one kernel call. Also holds the
// messages that the node sends to itself: they are handled inside the step, after the handler that
// sent them.
#pragma once

#include <algorithm>
#include <deque>
#include <type_traits>

#include "libgob/protocol/core.h"

namespace gob {

class Core::Out {
 public:
  explicit Out(Actions& actions) : actions_(actions), first_(actions.size()) {}

  // Appends, or joins an earlier action of this step. Joining moves the action forward, so it stops
  // at the first action that concerns the same pages: the order for each page never changes.
  template <class A>
  void act(A action) {
    if constexpr (requires { pages_of(action); }) {
      const std::size_t oldest = actions_.size() - std::min(actions_.size() - first_, kWindow);
      for (std::size_t i = actions_.size(); i-- > oldest;) {
        if (auto* earlier = std::get_if<A>(&actions_[i]); earlier && joins(*earlier, action)) {
          pages_of(*earlier).mask |= pages_of(action).mask;
          if constexpr (std::is_same_v<A, action::Send>) {
            earlier->message.ahead |= action.message.ahead;
            earlier->message.free_frames = action.message.free_frames;  // the later, the truer
          }
          return;
        }
        if (concerns(actions_[i], pages_of(action))) break;
      }
    }
    actions_.push_back(std::move(action));
  }

  void to_self(const Message& message) { self_.push_back(message); }
  [[nodiscard]] bool has_own_message() const { return !self_.empty(); }
  Message take_own_message() {
    Message message = self_.front();
    self_.pop_front();
    return message;
  }

 private:
  static constexpr std::size_t kWindow = 16;  // how far back to look for something to join

  static PageSet& pages_of(action::Send& a) { return a.message.pages; }
  template <class A>
  requires requires(A& a) { a.pages; }
  static PageSet& pages_of(A& a) { return a.pages; }

  static bool same_stripe(const PageSet& a, const PageSet& b) {
    return a.container == b.container && a.stripe == b.stripe && a.mask != 0 && b.mask != 0;
  }
  static bool disjoint(const PageSet& a, const PageSet& b) {
    return same_stripe(a, b) && (a.mask & b.mask) == 0;
  }
  static bool joins(action::Send& a, action::Send& b) {
    if (a.to != b.to || !disjoint(a.message.pages, b.message.pages)) return false;
    Message x = a.message;
    Message y = b.message;
    x.pages = y.pages = PageSet{};
    x.ahead = y.ahead = 0;
    x.free_frames = y.free_frames = 0;
    return x == y;
  }
  static bool joins(action::Install& a, action::Install& b) {
    return disjoint(a.pages, b.pages) && a.access == b.access && a.zero == b.zero;
  }
  static bool joins(action::Map& a, action::Map& b) {
    return disjoint(a.pages, b.pages) && a.access == b.access;
  }
  static bool joins(action::Refuse& a, action::Refuse& b) {
    return disjoint(a.pages, b.pages) && a.refusal == b.refusal && a.node == b.node;
  }
  static bool joins(action::JobDone& a, action::JobDone& b) {
    return disjoint(a.pages, b.pages) && a.discard == b.discard && a.refusal == b.refusal;
  }
  static bool joins(action::WriteBack& a, action::WriteBack& b) {
    return disjoint(a.pages, b.pages) && a.arrived == b.arrived;
  }
  template <class A>
  static bool joins(A& a, A& b) {
    return disjoint(a.pages, b.pages);
  }

  // Markers and the end of a report must stay where they are: they speak of all pages.
  static bool concerns(Action& earlier, const PageSet& pages) {
    return std::visit(
        [&](auto& a) {
          if constexpr (requires { pages_of(a); }) {
            const PageSet& other = pages_of(a);
            return other.mask == 0 || (same_stripe(other, pages) && (other.mask & pages.mask) != 0);
          } else {
            return true;
          }
        },
        earlier);
  }

  Actions& actions_;
  const std::size_t first_;  // actions of earlier steps are not ours to change
  std::deque<Message> self_;
};

}  // namespace gob
