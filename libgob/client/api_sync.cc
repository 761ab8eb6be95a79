// gob.h: barriers, locks, condition variables.
#include <atomic>

#include "libgob/client/connection.h"
#include "libgob/client/last_error.h"
#include "libgob/client/request.h"
#include "libgob/gob.h"

namespace control = gob::control;
using gob::ControlClient;
using gob::client::failed;
using gob::client::guarded;
using gob::client::refused;
using gob::client::usable;

namespace {

// Names the calling thread to gobd. Unlike a thread id it is never used again, so that a thread
// which ends with a lock bequeaths it to nobody.
std::uint64_t holder() {
  static std::atomic<std::uint64_t> next{1};
  thread_local const std::uint64_t mine = next.fetch_add(1, std::memory_order_relaxed);
  return mine;
}

int check_timeout(std::int64_t timeout_ms, const char* function) {
  if (timeout_ms >= GOB_FOREVER) return 0;
  return refused(std::string(function) + ": the time-out is negative and not GOB_FOREVER");
}

// The time-out is gobd's to keep: only it can tell "timed out" from "granted just now".
int wait_for(gob_connection* connection, const control::Request& request,
             control::Reply* reply = nullptr) {
  auto answer = connection->call(request, {}, ControlClient::kForever);
  if (!answer.ok()) return failed(answer.error());
  if (reply != nullptr) *reply = std::move(answer->reply);
  return 0;
}

int wait_for_lock(gob_connection* connection, const control::Request& request, const char* lock) {
  control::Reply reply;
  if (int error = wait_for(connection, request, &reply); error != 0) return error;
  if (!reply.lock().owner_died()) return 0;
  return failed(gob::make_error(gob::ErrorCode::kLost,
                                "lock \"" + std::string(lock) +
                                    "\" is taken, but who held it died: what it guards may be "
                                    "half done",
                                EOWNERDEAD));
}

int take(gob_connection* connection, const char* name, std::int64_t timeout_ms,
         const char* function) {
  if (int error = usable(connection, name, function); error != 0) return error;
  if (int error = check_timeout(timeout_ms, function); error != 0) return error;
  control::Request request;
  request.mutable_lock()->set_name(name);
  request.mutable_lock()->set_timeout_ms(timeout_ms);
  request.mutable_lock()->set_holder(holder());
  const gob::client::Gate::Pass pass(connection->gate());
  const int taken = wait_for_lock(connection, request, name);
  if (taken == 0 || taken == -EOWNERDEAD) connection->gate().took_lock();
  return taken;
}

int notify(gob_connection* connection, const char* cond, const char* lock, bool all,
           const char* function) {
  if (int error = usable(connection, cond, function); error != 0) return error;
  if (lock == nullptr) return refused(std::string(function) + ": the lock's name is NULL");
  control::Request request;
  request.mutable_cond_notify()->set_cond(cond);
  request.mutable_cond_notify()->set_lock(lock);
  request.mutable_cond_notify()->set_all(all);
  request.mutable_cond_notify()->set_holder(holder());
  return wait_for(connection, request);
}

}  // namespace

int gob_barrier_wait(gob_connection* connection, const char* name, unsigned count,
                     int64_t timeout_ms) {
  return guarded([&] {
    if (int error = usable(connection, name, "gob_barrier_wait"); error != 0) return error;
    if (int error = check_timeout(timeout_ms, "gob_barrier_wait"); error != 0) return error;
    if (count == 0) return refused("gob_barrier_wait: a barrier of 0 participants");
    control::Request request;
    request.mutable_barrier()->set_name(name);
    request.mutable_barrier()->set_count(count);
    request.mutable_barrier()->set_timeout_ms(timeout_ms);
    control::Reply reply;
    if (int error = wait_for(connection, request, &reply); error != 0) return error;
    return reply.barrier().last() ? 1 : 0;
  });
}

int gob_lock(gob_connection* connection, const char* name, int64_t timeout_ms) {
  return guarded([&] { return take(connection, name, timeout_ms, "gob_lock"); });
}

int gob_trylock(gob_connection* connection, const char* name) {
  return guarded([&] { return take(connection, name, 0, "gob_trylock"); });
}

int gob_unlock(gob_connection* connection, const char* name) {
  return guarded([&] {
    if (int error = usable(connection, name, "gob_unlock"); error != 0) return error;
    control::Request request;
    request.mutable_unlock()->set_name(name);
    request.mutable_unlock()->set_holder(holder());
    const gob::client::Gate::Pass pass(connection->gate());
    const int released = wait_for(connection, request);
    if (released == 0) connection->gate().released_lock();
    return released;
  });
}

int gob_cond_wait(gob_connection* connection, const char* cond, const char* lock,
                  int64_t timeout_ms) {
  return guarded([&] {
    if (int error = usable(connection, cond, "gob_cond_wait"); error != 0) return error;
    if (lock == nullptr) return refused("gob_cond_wait: the lock's name is NULL");
    if (int error = check_timeout(timeout_ms, "gob_cond_wait"); error != 0) return error;
    control::Request request;
    request.mutable_cond_wait()->set_cond(cond);
    request.mutable_cond_wait()->set_lock(lock);
    request.mutable_cond_wait()->set_timeout_ms(timeout_ms);
    request.mutable_cond_wait()->set_holder(holder());
    return wait_for_lock(connection, request, lock);
  });
}

int gob_cond_signal(gob_connection* connection, const char* cond, const char* lock) {
  return guarded([&] { return notify(connection, cond, lock, false, "gob_cond_signal"); });
}

int gob_cond_broadcast(gob_connection* connection, const char* cond, const char* lock) {
  return guarded([&] { return notify(connection, cond, lock, true, "gob_cond_broadcast"); });
}
