// What the kernel tells of a process's pages. Functions over /proc; any thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "libgob/migration/criu_images.h"

namespace gob::migration {

// The frame of the page of zeros that this kernel maps wherever memory is read that was never written;
// 0: it maps no such page, or does not tell its number.
std::uint64_t zero_frame();
// Does it map one?
bool shares_zero_page();

// Adds to `runs`, by ascending addresses, those of `pages` pages from `address` that the process has
// of its own, in memory or swapped out, except those in frame `but` (0: none). None if it has ended.
void add_present(std::vector<LazyRun>& runs, pid_t pid, std::uint64_t address, std::uint64_t pages,
                 std::uint64_t but = 0);

}  // namespace gob::migration
