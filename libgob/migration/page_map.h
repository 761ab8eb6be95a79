// What the kernel tells of a process's pages. Functions over /proc; any thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "libgob/migration/criu_images.h"

namespace gob::migration {

// Does this kernel map one page of zeros wherever memory is read that was never written? If it cannot be
// told: no.
bool shares_zero_page();

// Both add to `runs`, by ascending addresses, those of `pages` pages from `address` that the process has of
// its own, in memory or swapped out. None if it has ended.
void add_present(std::vector<LazyRun>& runs, pid_t pid, std::uint64_t address, std::uint64_t pages);
// Of private anonymous memory, and without pages of zeros as above: those that were written. Some 5 ns a
// page from Linux 6.7 on, 40 before.
void add_written(std::vector<LazyRun>& runs, pid_t pid, std::uint64_t address, std::uint64_t pages);

}  // namespace gob::migration
