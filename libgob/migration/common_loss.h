// What becomes of containers in programs that nobody looks after any more: accesses raise SIGBUS,
// as in a program with libgob. Any thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <set>

struct uffd_msg;

namespace gob::migration {

// Nothing of containers is left in process `pid`, nor places of them: accesses raise SIGBUS. If
// that cannot be, it is killed.
void lose_common(pid_t pid);
// All of these. Meanwhile calls `answer`, in this thread, again and again: a thread that waits in
// the kernel for a page stops only when it gets it, or an error instead. It returns when it has
// answered something, or when `over`, an eventfd that does not block and is 0 before and after, is
// readable.
void lose_common(const std::set<pid_t>& pids, int over, const std::function<void()>& answer);

// A fault that nobody else answers: SIGBUS, or EFAULT within a system call. `alone`: gobd is gone,
// so that nothing depends on who writes what.
void refuse_fault(int uffd, const uffd_msg& message, bool alone);
// Likewise all of this memory that is not there.
void refuse_missing(int uffd, std::uint64_t address, std::uint64_t bytes);

}  // namespace gob::migration
