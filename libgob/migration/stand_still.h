// Brings processes to a stand at a moment when they hold no lock on a file: a lock belongs to the
// process that took it, and nobody else can hand it over. Waits on the calling thread.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>

#include "libgob/base/result.h"

namespace gob::migration {

// The process and its descendants are stopped (SIGSTOP) when this returns, also after an error.
// Since when they stand, without the tries before. kUnavailable: they always held a lock when they
// were looked at, on the file that is named.
Result<std::chrono::steady_clock::time_point> stand_still(pid_t root,
                                                          std::chrono::milliseconds limit);

// A file on which one of the stopped processes holds a lock; or anybody, if it is in a gob mount,
// whose home does not say who.
std::optional<std::string> locked_file(pid_t root);

}  // namespace gob::migration
