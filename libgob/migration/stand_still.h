// Brings processes to a stand at a moment when they hold no lock on a file that cannot go along:
// one of the kernel's belongs to the process that took it, and nobody else can hand it over. Waits
// on the calling thread.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>

#include "libgob/base/result.h"
#include "libgob/migration/held_locks.h"

namespace gob::migration {

// The process and its descendants are stopped (SIGSTOP) when this returns, also after an error.
// Since when they stand, without the tries before. `locks`: looks at the stopped processes.
// kUnavailable: whenever it did, a lock would stay; which, and why.
Result<std::chrono::steady_clock::time_point> stand_still(
    pid_t root, std::chrono::milliseconds limit, const std::function<const HeldLocks&()>& locks);

}  // namespace gob::migration
