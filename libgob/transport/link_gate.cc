#include "libgob/transport/link_gate.h"

#include <unistd.h>

#include <utility>

namespace gob {

void LinkGate::attach(NewLink link) {
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  links_.insert_or_assign(link.peer, std::move(link));
  wake_locked();
}

void LinkGate::cut(LinkBreak cut) {
  const std::lock_guard lock(mutex_);
  const auto waiting = links_.find(cut.peer);
  if (waiting != links_.end() && waiting->second.incarnation == cut.incarnation) {
    links_.erase(waiting);
    return;
  }
  cuts_.insert_or_assign(cut.peer, std::move(cut));
  wake_locked();
}

void LinkGate::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  links_.clear();
}

void LinkGate::wake() {
  const std::lock_guard lock(mutex_);
  wake_locked();
}

void LinkGate::wake_locked() {
  if (signalled_.exchange(true, std::memory_order_acq_rel)) return;
  const std::uint64_t one = 1;
  // An eventfd takes this write unless its counter is about to overflow; then it is readable
  // anyway.
  [[maybe_unused]] const auto written = ::write(event_.get(), &one, sizeof one);
}

LinkGate::Taken LinkGate::take() {
  Taken taken;
  const std::lock_guard lock(mutex_);
  std::uint64_t count = 0;
  [[maybe_unused]] const auto bytes = ::read(event_.get(), &count, sizeof count);
  signalled_.store(false, std::memory_order_release);
  for (auto& [peer, cut] : std::exchange(cuts_, {})) taken.cuts.push_back(std::move(cut));
  for (auto& [peer, link] : links_) taken.links.push_back(std::move(link));
  links_.clear();
  return taken;
}

}  // namespace gob
