// What a reader must know of the place where numbers were measured. No host names.
#pragma once

#include <string>

#include "gobbench/table.h"

namespace gob::bench {

// Processor model, usable cores, memory, kernel; and how many processes ran or waited to run over
// the last minute: many more than the experiment has mean that the machine had other things to do.
[[nodiscard]] Json describe_machine();
// The same as one line.
[[nodiscard]] std::string machine_line();

// The commit this program was built from, with "-dirty" if the tree had changes; "unknown" outside
// of a repository.
[[nodiscard]] std::string commit();

// Now, in UTC, as 2026-01-31T12:00:00Z.
[[nodiscard]] std::string utc_now();

}  // namespace gob::bench
