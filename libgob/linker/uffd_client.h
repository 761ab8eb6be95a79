// The program's side of a linked mapping: make a userfaultfd, register the mapping with it. Used by
// libgob in the program's process, and by tests. Any thread.
#pragma once

#include <cstddef>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"

namespace gob {

// A userfaultfd of this process that also sees faults of the kernel's own accesses, non-blocking,
// closed on exec, with the features gobd expects. `device_fd`: /dev/userfaultfd as opened by gobd,
// or -1; it serves programs that may not make one themselves. kPermissionDenied and kUnsupported
// say what to change.
Result<UniqueFd> create_uffd(int device_fd);

// Puts [address, address + bytes), a shared writable-by-descriptor mapping of a container's memfd,
// under the userfaultfd: missing pages, present but unmapped pages, write-protected pages. Both
// multiples of the page size.
Status register_mapping(int uffd, void* address, std::size_t bytes);

// Whether this kernel can do all that: kUnsupported with what is missing if not. gobd calls it at
// start.
Status check_uffd_support();

}  // namespace gob
