#include "libgob/linker/file_sync.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>

#include "libgob/base/unique_fd.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace gob {
namespace {

constexpr std::uint64_t kRun = 64;  // pages at once
constexpr int kTries = 200;         // of a page that is taken away meanwhile
constexpr int kFile = 3;
constexpr int kOrders = 4;

struct Order {
  std::uint64_t first;
  std::uint64_t count;
};

// A new mapping, so that each page is asked for and becomes dirty. 0 or an errno.
int write_run(const Order& order) {
  const std::size_t bytes = order.count * kPageSize;
  const auto at = static_cast<off_t>(order.first * kPageSize);
  void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, kFile, at);
  if (memory == MAP_FAILED) return errno;
  int error = 0;
  while (::madvise(memory, bytes, MADV_POPULATE_WRITE) != 0) {
    if (errno == EAGAIN || errno == EINTR) continue;
    error = errno;
    break;
  }
  ::munmap(memory, bytes);
  if (error == 0 && ::sync_file_range(kFile, at, static_cast<off_t>(bytes),
                                      SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                                          SYNC_FILE_RANGE_WAIT_AFTER) != 0)
    error = errno;
  return error;
}

// A process of its own: its faults wait for gobd, with the memory map locked. Another thread of the
// parent may hold any lock: system calls only.
[[noreturn]] void serve_orders(int file, int orders) {
  const int own = ::fcntl(orders, F_DUPFD, kOrders + 1);
  const int copy = ::fcntl(file, F_DUPFD, kOrders + 1);
  if (own < 0 || copy < 0 || ::dup2(copy, kFile) < 0 || ::dup2(own, kOrders) < 0) ::_exit(errno);
  ::close_range(kOrders + 1, ~0u, 0);
  Order order{};
  while (::read(kOrders, &order, sizeof order) == sizeof order) {
    const int error = write_run(order);
    if (::write(kOrders, &error, sizeof error) != sizeof error) break;
  }
  ::_exit(0);
}

Status refused(std::uint64_t first, std::uint64_t count, int error) {
  std::string what = "pages " + std::to_string(first) + " to " + std::to_string(first + count - 1);
  if (count == 1) what = "page " + std::to_string(first);
  errno = error;
  if (error == EFAULT)
    return make_error(ErrorCode::kLost,
                      what + " cannot be had (the log says why), so the disk has not all of the file",
                      EIO);
  return system_error(what + " cannot be written to the disk");
}

}  // namespace

Status write_in_runs(std::uint64_t pages, TakenPages& taken,
                     const std::function<int(std::uint64_t, std::uint64_t)>& write) {
  for (std::uint64_t first = 0; first < pages; first += kRun) {
    const std::uint64_t count = std::min(kRun, pages - first);
    taken.watch(first, count);
    if (const int error = write(first, count); error != 0) return refused(first, count, error);
    for (const std::uint64_t page : taken.taken()) {
      bool written = false;
      for (int tries = 0; tries < kTries && !written; ++tries) {
        taken.watch(page, 1);
        if (const int error = write(page, 1); error != 0) return refused(page, 1, error);
        written = taken.taken().empty();
      }
      if (!written)
        return make_error(ErrorCode::kUnavailable,
                          "page " + std::to_string(page) +
                              " is taken by other nodes before it can be written, again and again; "
                              "let the programs that write to it pause, and try again",
                          EAGAIN);
    }
  }
  return {};
}

Status sync_linked_file(int file, std::uint64_t pages, TakenPages& taken) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return system_error("cannot talk to a process that writes a linked file to its disk");
  UniqueFd ours(ends[0]);
  UniqueFd theirs(ends[1]);
  const pid_t child = ::fork();
  if (child == 0) serve_orders(file, theirs.get());
  if (child < 0) return system_error("cannot start a process that writes a linked file to its disk");
  theirs.reset();
  Status status = write_in_runs(pages, taken, [&](std::uint64_t first, std::uint64_t count) {
    const Order order{first, count};
    int error = 0;
    if (::send(ours.get(), &order, sizeof order, MSG_NOSIGNAL) != sizeof order ||
        ::read(ours.get(), &error, sizeof error) != sizeof error)
      error = ECHILD;  // the process has gone
    return error;
  });
  taken.watch_none();
  ours.reset();
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  if (status && ::fsync(file) != 0) status = system_error("the file cannot be synced to its disk");
  return status;
}

}  // namespace gob
