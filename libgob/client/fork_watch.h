// Keeps forked children from holding what is their parent's: a copy of the socket would hide the
// parent's death from gobd, and a copy of a userfaultfd would keep its faults waiting for ever.
// Any thread.
#pragma once

#include "libgob/base/result.h"

struct gob_connection;

namespace gob::client {

Status watch_forks(gob_connection* connection);
void unwatch_forks(gob_connection* connection);

}  // namespace gob::client
