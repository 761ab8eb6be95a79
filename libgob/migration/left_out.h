// Pages that CRIU takes for zeros though they are not. Before version 4 it knows the kernel's shared
// page of zeros by the number of a page that it touched for this; a kernel that shares none (every
// page read for the first time is one of its own) gives it the number of a page that is free again
// at once, and that the process may get.
#pragma once

#include <sys/types.h>

#include "libgob/base/result.h"
#include "libgob/migration/criu_images.h"

namespace gob::migration {

// Adds to `task.runs` and `task.saved` what the stopped process `pid` (as this side sees it) has and
// CRIU did not see. kUnavailable with EAGAIN: such a page is one that has to be in the images (another
// dump will have it). Reads 8 bytes for each page of the areas: not needed where shares_zero_page() (page_map.h).
Status add_left_out(pid_t pid, LazyTask& task);

}  // namespace gob::migration
