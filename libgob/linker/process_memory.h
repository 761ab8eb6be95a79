// ProcessMemory: the memory of stopped processes of this node behind the pages of a container. Page
// n of process i is page i * kProcessPages + n of the container: nothing has to be said of areas.
#pragma once

#include <cstdint>
#include <vector>

#include "libgob/base/unique_fd.h"
#include "libgob/linker/backing.h"

namespace gob {

class ProcessMemory final : public Backing {
 public:
  static constexpr std::uint64_t kProcessPages = std::uint64_t{1} << 35;  // 128 TiB
  static constexpr std::uint64_t kMostProcesses = kMaxPages / kProcessPages;
  static constexpr std::size_t kFdsOfAProcess = 2;
  static constexpr std::size_t kMostFds = kMostProcesses * kFdsOfAProcess;

  // Of each process its /proc/PID/mem and its /proc/PID/stat, open for reading. kInvalidArgument:
  // one is not of proc(5), or may write, or there are too many. What else of proc(5) it could be,
  // the caller trusts.
  static Result<ProcessMemory> open(std::vector<UniqueFd> processes);

  // An error where a process has no memory, or does not stand still any more: never zeros instead,
  // nor what its threads write as they end.
  Status read(PageIndex first, unsigned count, iovec* parts, int part_count) const override;
  // kInvalidArgument, always.
  Status write(PageIndex first, unsigned count, const std::byte* bytes) const override;
  [[nodiscard]] bool is_memory() const override { return true; }

 private:
  struct Process {
    UniqueFd memory;
    UniqueFd stat;
    [[nodiscard]] bool stands_still() const;
  };
  explicit ProcessMemory(std::vector<Process> processes) : processes_(std::move(processes)) {}

  std::vector<Process> processes_;
};

}  // namespace gob
