// Writes a linked file to its disk with all that any node wrote, while it stays linked.
#pragma once

#include <cstdint>
#include <functional>

#include "libgob/base/result.h"
#include "libgob/linker/taken_pages.h"

namespace gob {

// On return the disk has, of each of the file's `pages`, what it was at some moment since the call, or
// newer bytes. Each page comes here with the right to write, is written, and may leave again; programs
// of all nodes go on. `taken` is told of every page that leaves. kUnavailable: other nodes take a page
// away faster than it can be written, again and again. Waits for gobd, so for a thread that may.
Status sync_linked_file(int file, std::uint64_t pages, TakenPages& taken);

// The order of it: runs of 64 pages, and then one by one those that left meanwhile. `write` brings a run
// (first page, number of pages) to the disk: 0, or an errno.
Status write_in_runs(std::uint64_t pages, TakenPages& taken,
                     const std::function<int(std::uint64_t, std::uint64_t)>& write);

}  // namespace gob
