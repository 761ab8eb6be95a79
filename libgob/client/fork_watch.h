// Keeps forked children from holding what is their parent's: a copy of the socket would hide the
// parent's death from gobd, and a copy of a userfaultfd would keep its faults waiting for ever.
// Any thread.
#pragma once

#include "libgob/base/result.h"

struct gob_connection;

namespace gob::client {

// pthread_atfork(3), once for all connections. Who has handlers of its own that use connections
// registers them after this: they come first before a fork, and last in the child.
Status register_fork_handlers();
Status watch_forks(gob_connection* connection);
void unwatch_forks(gob_connection* connection);

}  // namespace gob::client
