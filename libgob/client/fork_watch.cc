#include "libgob/client/fork_watch.h"

#include <pthread.h>

#include <mutex>
#include <set>

#include "libgob/client/connection.h"

namespace gob::client {
namespace {

struct Watch {
  std::mutex mutex;
  std::set<gob_connection*> connections;  // protected by mutex
};

// Never destroyed: a fork may come while the process exits.
Watch& watch() {
  static auto* instance = new Watch;
  return *instance;
}

void before_fork() {
  watch().mutex.lock();
  for (gob_connection* connection : watch().connections) connection->before_fork();
}
void in_parent() {
  for (gob_connection* connection : watch().connections) connection->after_fork_in_parent();
  watch().mutex.unlock();
}
void in_child() {
  for (gob_connection* connection : watch().connections) connection->after_fork_in_child();
  // They stay allocated: what other threads of the parent were doing with them has no end here.
  watch().connections.clear();
  watch().mutex.unlock();
}

}  // namespace

Status register_fork_handlers() {
  static const int registered = ::pthread_atfork(before_fork, in_parent, in_child);
  if (registered == 0) return {};
  return make_error(ErrorCode::kSystem, "registering what to do at fork", registered);
}

Status watch_forks(gob_connection* connection) {
  if (Status registered = register_fork_handlers(); !registered) return registered;
  const std::lock_guard guard(watch().mutex);
  watch().connections.insert(connection);
  return {};
}

void unwatch_forks(gob_connection* connection) {
  const std::lock_guard guard(watch().mutex);
  watch().connections.erase(connection);
}

}  // namespace gob::client
