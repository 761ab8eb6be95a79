// The userfaultfd calls that resolve faults of another process, with the kernel's answers sorted
// into what a caller does about them. Addresses are the program's. Any thread; calls on different
// ranges of one descriptor may run at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

struct uffd_msg;

namespace gob {

enum class UffdOutcome : std::uint8_t {
  kDone,
  kExists,     // copy: the page has a frame already; continue: it is mapped already; poison: ditto
  kNoFrame,    // continue: the page has no frame
  kNotMapped,  // the program unmapped the page, or mapped something else there
  kDead,       // the program's memory is gone: it exited
  kNoMemory,   // of the host
  kChanging,   // the program changes its mappings: it goes on when an event of this userfaultfd,
               // maybe in this thread's own queue, has been read. Wake who waits: it asks again.
  kFailed,     // anything else; errno_value says what
};

struct UffdResult {
  unsigned done = 0;  // pages from the start of the range that were dealt with
  UffdOutcome outcome = UffdOutcome::kDone;  // kDone: all of them; else why not the next one
  int errno_value = 0;
};

// Makes frames with these bytes, maps them, wakes who waits for them: one call.
UffdResult uffd_copy(int uffd, std::uint64_t address, unsigned count, const std::byte* bytes,
                     bool write_protected);
// Maps frames that exist, and wakes.
UffdResult uffd_continue(int uffd, std::uint64_t address, unsigned count, bool write_protected);
// Once this returns kDone no thread of the program can write to the pages without a new fault.
// Not kDone: some of the pages may still be writable.
UffdResult uffd_protect(int uffd, std::uint64_t address, unsigned count);
// Lets the program write where it is mapped, and removes the kernel's memory of a protection where
// it is not; wakes unless told otherwise.
UffdResult uffd_unprotect(int uffd, std::uint64_t address, unsigned count, bool wake);
// Accesses get SIGBUS (EFAULT inside the kernel) from now on; wakes. Only where nothing is mapped
// and no protection is remembered, else kExists.
UffdResult uffd_poison(int uffd, std::uint64_t address, unsigned count);
// Takes events that wait, never blocks, also if the program cleared O_NONBLOCK of the descriptor
// that it shares. How many; a negative errno.
std::int64_t uffd_read(int uffd, std::span<uffd_msg> into);
// The program has the memory at that address that this was made for, and did not move it.
bool uffd_is_there(int uffd, std::uint64_t address);
// Who waits for these pages tries again.
void uffd_wake(int uffd, std::uint64_t address, unsigned count);

}  // namespace gob
