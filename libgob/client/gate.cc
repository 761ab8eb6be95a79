#include "libgob/client/gate.h"

#include <cerrno>

namespace gob::client {
namespace {

// Of the calling thread, in all connections.
thread_local int passes = 0;
thread_local int locks = 0;

}  // namespace

void Gate::enter() {
  std::unique_lock lock(mutex_);
  if (passes == 0 && locks == 0) changed_.wait(lock, [this] { return !closed_; });
  ++passes;
  ++inside_;
}

void Gate::leave() {
  const std::lock_guard lock(mutex_);
  --passes;
  --inside_;
  if (closed_) changed_.notify_all();
}

void Gate::took_lock() {
  const std::lock_guard lock(mutex_);
  ++locks;
  ++locks_;
}

void Gate::released_lock() {
  const std::lock_guard lock(mutex_);
  --locks;
  --locks_;
}

Status Gate::close(std::chrono::milliseconds limit) {
  std::unique_lock lock(mutex_);
  closed_ = true;
  if (changed_.wait_for(lock, limit, [this] { return inside_ == 0 && locks_ == 0; })) return {};
  closed_ = false;
  changed_.notify_all();
  return make_error(ErrorCode::kUnavailable,
                    locks_ != 0 ? "it holds a lock of gob whenever it is looked at"
                                : "one of its threads waits in a call of libgob (a barrier, a lock, "
                                  "a condition?)",
                    EBUSY);
}

void Gate::open() {
  const std::lock_guard lock(mutex_);
  closed_ = false;
  changed_.notify_all();
}

}  // namespace gob::client
