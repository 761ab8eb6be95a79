#include "libgob/linker/process_memory.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <string>

namespace gob {

Result<ProcessMemory> ProcessMemory::open(std::vector<UniqueFd> processes) {
  if (processes.empty() || processes.size() > kMostProcesses)
    return make_error(ErrorCode::kInvalidArgument,
                      "not the memory of " + std::to_string(processes.size()) +
                          " processes: 1 to " + std::to_string(kMostProcesses),
                      EINVAL);
  for (const UniqueFd& process : processes) {
    struct statfs system {};
    if (::fstatfs(process.get(), &system) != 0 || system.f_type != PROC_SUPER_MAGIC ||
        (::fcntl(process.get(), F_GETFL) & O_ACCMODE) != O_RDONLY)
      return make_error(ErrorCode::kInvalidArgument,
                        "the memory of a process is its /proc/PID/mem, open for reading", EINVAL);
  }
  return ProcessMemory(std::move(processes));
}

Status ProcessMemory::read(PageIndex first, unsigned count, iovec* parts, int part_count) const {
  const std::uint64_t process = first.value() / kProcessPages;
  const std::uint64_t begin = first.value() % kProcessPages;
  const auto failed = [&](int error, const char* why) {
    return make_error(ErrorCode::kSystem,
                      "cannot read " + std::to_string(count) + " pages from page " +
                          std::to_string(begin) + " of a stopped process: " + why,
                      error);
  };
  if (process >= processes_.size() || count > kProcessPages - begin)
    return failed(EIO, "there is no such process");
  std::uint64_t offset = begin * kPageSize;
  while (part_count > 0) {
    const ssize_t got =
        ::preadv(processes_[process].get(), parts, part_count, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failed(errno, "it has no such memory");
    if (got == 0) return failed(EIO, "it has ended");
    offset += static_cast<std::uint64_t>(got);
    pass_over(static_cast<std::size_t>(got), parts, part_count);
  }
  return {};
}

Status ProcessMemory::write(PageIndex, unsigned, const std::byte*) const {
  return make_error(ErrorCode::kInvalidArgument, "the memory of a stopped process is not written",
                    EROFS);
}

}  // namespace gob
