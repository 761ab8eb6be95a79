#include "libgob/linker/uffd_calls.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>

#include "libgob/base/ids.h"
#include "libgob/linker/uffd_abi.h"

namespace gob {
namespace {

// EAGAIN without progress: a page table changed under the kernel, which is over at once, or the
// program changes its mappings (it forks, or calls mremap(2)), and goes on when that event has been
// read. That may be for this very thread to do, so it must not wait here: kChanging.
constexpr int kAtOnce = 4;

std::uint64_t bytes_of(unsigned count) { return std::uint64_t{count} * kPageSize; }

UffdOutcome outcome_of(int error) {
  switch (error) {
    case 0:
      return UffdOutcome::kDone;
    case EEXIST:
      return UffdOutcome::kExists;
    case EFAULT:
      return UffdOutcome::kNoFrame;
    case ENOENT:
      return UffdOutcome::kNotMapped;
    case ESRCH:
      return UffdOutcome::kDead;
    case ENOMEM:
    case ENOSPC:
      return UffdOutcome::kNoMemory;
    case EAGAIN:
      return UffdOutcome::kChanging;
    default:
      return UffdOutcome::kFailed;
  }
}

// Calls `step(done)`, which tries the pages from `done` on and returns pages it dealt with, or a
// negative errno, until all are dealt with or an error comes.
template <class F>
UffdResult repeat(unsigned count, F&& step) {
  UffdResult result;
  int idle = 0;
  while (result.done < count) {
    const std::int64_t pages = step(result.done);
    if (pages > 0) {
      result.done += static_cast<unsigned>(pages);
      idle = 0;
      continue;
    }
    const int error = pages == 0 ? EAGAIN : static_cast<int>(-pages);
    if (error == EINTR || (error == EAGAIN && ++idle < kAtOnce)) continue;
    result.outcome = outcome_of(error);
    result.errno_value = error;
    break;
  }
  return result;
}

// What the kernel reports of a call that may stop half-way: `moved` bytes, or a negative errno. A
// partial success is EAGAIN with `moved` above zero.
std::int64_t pages_moved(int call, std::int64_t moved, unsigned asked) {
  if (call == 0) return asked;
  if (moved > 0) return moved / static_cast<std::int64_t>(kPageSize);
  return -errno;
}

UffdResult set_protection(int uffd, std::uint64_t address, unsigned count, std::uint64_t mode) {
  return repeat(count, [&](unsigned) -> std::int64_t {
    uffdio_writeprotect call = {};
    call.range = {address, bytes_of(count)};
    call.mode = mode;
    return ::ioctl(uffd, UFFDIO_WRITEPROTECT, &call) == 0 ? count : -errno;
  });
}

}  // namespace

UffdResult uffd_copy(int uffd, std::uint64_t address, unsigned count, const std::byte* bytes,
                     bool write_protected) {
  return repeat(count, [&](unsigned done) {
    uffdio_copy call = {};
    call.dst = address + bytes_of(done);
    call.src = reinterpret_cast<std::uintptr_t>(bytes) + bytes_of(done);
    call.len = bytes_of(count - done);
    call.mode = write_protected ? UFFDIO_COPY_MODE_WP : 0;
    const int answer = ::ioctl(uffd, UFFDIO_COPY, &call);
    return pages_moved(answer, call.copy, count - done);
  });
}

UffdResult uffd_continue(int uffd, std::uint64_t address, unsigned count, bool write_protected) {
  return repeat(count, [&](unsigned done) {
    uffdio_continue call = {};
    call.range = {address + bytes_of(done), bytes_of(count - done)};
    call.mode = write_protected ? UFFDIO_CONTINUE_MODE_WP : 0;
    const int answer = ::ioctl(uffd, UFFDIO_CONTINUE, &call);
    return pages_moved(answer, call.mapped, count - done);
  });
}

UffdResult uffd_protect(int uffd, std::uint64_t address, unsigned count) {
  return set_protection(uffd, address, count, UFFDIO_WRITEPROTECT_MODE_WP);
}

UffdResult uffd_unprotect(int uffd, std::uint64_t address, unsigned count, bool wake) {
  return set_protection(uffd, address, count, wake ? 0 : UFFDIO_WRITEPROTECT_MODE_DONTWAKE);
}

UffdResult uffd_poison(int uffd, std::uint64_t address, unsigned count) {
  return repeat(count, [&](unsigned done) {
    uffdio_poison call = {};
    call.range = {address + bytes_of(done), bytes_of(count - done)};
    const int answer = ::ioctl(uffd, UFFDIO_POISON, &call);
    return pages_moved(answer, call.updated, count - done);
  });
}

std::int64_t uffd_read(int uffd, std::span<uffd_msg> into) {
  const iovec vector = {into.data(), into.size_bytes()};
  ssize_t got = ::preadv2(uffd, &vector, 1, -1, RWF_NOWAIT);
  if (got < 0 && (errno == EOPNOTSUPP || errno == ESPIPE)) {
    // A kernel whose userfaultfd knows no RWF_NOWAIT: make sure of the flag instead.
    const int flags = ::fcntl(uffd, F_GETFL);
    if (flags < 0 || ::fcntl(uffd, F_SETFL, flags | O_NONBLOCK) != 0) return -errno;
    got = ::read(uffd, into.data(), into.size_bytes());
  }
  if (got < 0) return -errno;
  if (got == 0 || static_cast<std::size_t>(got) % sizeof(uffd_msg) != 0) return -EIO;
  return got / static_cast<ssize_t>(sizeof(uffd_msg));
}

bool uffd_is_there(int uffd, std::uint64_t address) {
  // A copy that fails in any case, since its bytes cannot be read: the kernel looks first where
  // they would go.
  static void* const nothing =
      ::mmap(nullptr, kPageSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  uffdio_copy call = {};
  call.dst = address;
  call.src = reinterpret_cast<std::uintptr_t>(nothing);
  call.len = kPageSize;
  return ::ioctl(uffd, UFFDIO_COPY, &call) == 0 || (errno != ENOENT && errno != ESRCH);
}

void uffd_wake(int uffd, std::uint64_t address, unsigned count) {
  uffdio_range range = {address, bytes_of(count)};
  // Fails only for a range that can never have been registered.
  static_cast<void>(::ioctl(uffd, UFFDIO_WAKE, &range));
}

}  // namespace gob
