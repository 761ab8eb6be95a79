// PageTurns: at the home of a mapped file, the order of changes of its pages. Writes of bytes that
// the file has, or gets at its end, go together. What cuts, makes holes or fills with zeros goes
// alone: its zeros must not come over bytes that were written behind it, nor an earlier write after
// its pages were forgotten. In the order in which they came, so that nobody waits for ever. Pure
// state; the file service guards it.
#pragma once

#include <deque>
#include <functional>
#include <utility>
#include <vector>

namespace gob::file {

class PageTurns {
 public:
  using Start = std::function<void()>;

  // True: it has begun. Else `start` comes out of end() when it has.
  [[nodiscard]] bool begin(bool alone, Start start) {
    if (!waiting_.empty() || !may_begin(alone)) {
      waiting_.push_back({alone, std::move(start)});
      return false;
    }
    count(alone);
    return true;
  }

  // One has ended: those that have begun by this.
  [[nodiscard]] std::vector<Start> end() {
    if (--under_way_ == 0) alone_ = false;
    std::vector<Start> begun;
    while (!waiting_.empty() && may_begin(waiting_.front().alone)) {
      count(waiting_.front().alone);
      begun.push_back(std::move(waiting_.front().start));
      waiting_.pop_front();
    }
    return begun;
  }

 private:
  struct Waiting {
    bool alone = false;
    Start start;
  };
  [[nodiscard]] bool may_begin(bool alone) const { return under_way_ == 0 || (!alone && !alone_); }
  void count(bool alone) {
    ++under_way_;
    alone_ = alone;
  }

  std::deque<Waiting> waiting_;
  unsigned under_way_ = 0;
  bool alone_ = false;  // the one that is under way
};

}  // namespace gob::file
