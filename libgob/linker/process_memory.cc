#include "libgob/linker/process_memory.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <string_view>

namespace gob {

Result<ProcessMemory> ProcessMemory::open(std::vector<UniqueFd> processes) {
  const std::size_t count = processes.size() / kFdsOfAProcess;
  if (count == 0 || count > kMostProcesses || processes.size() % kFdsOfAProcess != 0)
    return make_error(ErrorCode::kInvalidArgument,
                      "not " + std::to_string(processes.size()) +
                          " descriptors of processes: two of each, of 1 to " +
                          std::to_string(kMostProcesses),
                      EINVAL);
  std::vector<Process> all;
  for (const UniqueFd& each : processes) {
    struct statfs system {};
    if (::fstatfs(each.get(), &system) != 0 || system.f_type != PROC_SUPER_MAGIC ||
        (::fcntl(each.get(), F_GETFL) & O_ACCMODE) != O_RDONLY)
      return make_error(ErrorCode::kInvalidArgument,
                        "of a process that stands still its /proc/PID/mem and /proc/PID/stat are "
                        "wanted, open for "
                        "reading",
                        EINVAL);
  }
  for (std::size_t i = 0; i < count; ++i)
    all.push_back({std::move(processes[2 * i]), std::move(processes[2 * i + 1])});
  return ProcessMemory(std::move(all));
}

// A process that is killed or goes on: its first thread leaves this state before any of them runs.
bool ProcessMemory::Process::stands_still() const {
  std::array<char, 512> text;
  const ssize_t got = ::pread(stat.get(), text.data(), text.size(), 0);
  if (got <= 0) return false;
  // The name is in brackets, and may have some.
  const std::string_view said(text.data(), static_cast<std::size_t>(got));
  const std::size_t state = said.rfind(") ");
  return state != std::string_view::npos &&
         (said.substr(state + 2, 1) == "T" || said.substr(state + 2, 1) == "t");
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
        ::preadv(processes_[process].memory.get(), parts, part_count, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failed(errno, "it has no such memory");
    if (got == 0) return failed(EIO, "it has ended");
    offset += static_cast<std::uint64_t>(got);
    pass_over(static_cast<std::size_t>(got), parts, part_count);
  }
  // Afterwards: what was read is from before.
  if (!processes_[process].stands_still()) return failed(EIO, "it does not stand still any more");
  return {};
}

Status ProcessMemory::write(PageIndex, unsigned, const std::byte*) const {
  return make_error(ErrorCode::kInvalidArgument, "the memory of a stopped process is not written",
                    EROFS);
}

}  // namespace gob
