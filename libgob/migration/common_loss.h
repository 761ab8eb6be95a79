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

// What this node's gobd still does for a program.
enum class Gobd : std::uint8_t {
  kServes,  // it may map pages there, and protect them
  kForgot,  // it does not any more; others depend on who writes what
  kGone,    // it has ended: nothing depends on that
};
// A fault that nobody else answers: SIGBUS, or EFAULT within a system call. False: not now; whoever
// waits is to be woken a little later, and asks anew: gobd has to take the page away before.
bool refuse_fault(int uffd, const uffd_msg& message, Gobd gobd);
// Likewise all of this memory that is not there.
void refuse_missing(int uffd, std::uint64_t address, std::uint64_t bytes);

}  // namespace gob::migration
