// What a reader must know of the place where numbers were measured. No host names.
#pragma once

#include <cstdint>
#include <string>

#include "gobbench/table.h"
#include "libgob/base/result.h"

namespace gob::bench {

// Processor model, usable cores, memory, kernel; and how many processes ran or waited to run over
// the last minute: many more than the experiment has mean that the machine had other things to do.
[[nodiscard]] Json describe_machine();
// The same as one line.
[[nodiscard]] std::string machine_line();

// Touches memory and lets go of it, so that the kernel has it at hand: on a virtual machine, memory
// that was free for a while has to come from the host first, which takes longer than reading.
[[nodiscard]] Status warm_memory(std::uint64_t bytes);

// The commit this program was built from, with "-dirty" if the tree had changes; "unknown" outside
// of a repository.
[[nodiscard]] std::string commit();

// Now, in UTC, as 2026-01-31T12:00:00Z.
[[nodiscard]] std::string utc_now();

}  // namespace gob::bench
