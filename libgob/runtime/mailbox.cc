#include "libgob/runtime/mailbox.h"

#include <sys/eventfd.h>

#include <utility>

namespace gob {

Result<Mailbox> Mailbox::create(std::size_t capacity) {
  UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return system_error("cannot create an eventfd for a thread's mailbox");
  return Mailbox(capacity, std::move(event));
}

Mailbox::Mailbox(Mailbox&& other) noexcept
    : capacity_(other.capacity_), event_(std::move(other.event_)) {}

bool Mailbox::put(Work work, std::size_t limit) {
  bool first = false;
  {
    const std::lock_guard lock(mutex_);
    if (closed_ || queue_.size() >= limit) return false;
    first = queue_.empty();
    queue_.push_back(std::move(work));
  }
  if (first) {
    const std::uint64_t one = 1;
    // Fails only when the counter is near its limit, and then the eventfd is readable anyway.
    static_cast<void>(::write(event_.get(), &one, sizeof one));
  }
  return true;
}

void Mailbox::run() {
  std::uint64_t count = 0;
  static_cast<void>(::read(event_.get(), &count, sizeof count));
  {
    const std::lock_guard lock(mutex_);
    std::swap(running_, queue_);
  }
  for (Work& work : running_) work();
  running_.clear();
}

void Mailbox::close() {
  decltype(queue_) dropped;  // destroyed without the mutex: that may tell somebody, who posts
  const std::lock_guard lock(mutex_);
  closed_ = true;
  queue_.swap(dropped);
}

}  // namespace gob
