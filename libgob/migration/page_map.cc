#include "libgob/migration/page_map.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>

#include "libgob/base/ids.h"
#include "libgob/base/unique_fd.h"

namespace gob::migration {
namespace {

// Of an entry, see proc_pid_pagemap(5).
constexpr std::uint64_t kPresent = std::uint64_t{1} << 63;
constexpr std::uint64_t kSwapped = std::uint64_t{1} << 62;
constexpr std::uint64_t kOfAFile = std::uint64_t{1} << 61;
constexpr std::uint64_t kExclusive = std::uint64_t{1} << 56;  // nobody else has it
constexpr std::uint64_t kFrame = (std::uint64_t{1} << 55) - 1;

// Entries at a time: a buffer that was in use before costs less than one for all.
constexpr std::uint64_t kLook = 4096;

std::size_t read_entries(int map, std::uint64_t address, std::uint64_t* to, std::uint64_t pages) {
  const ssize_t got = ::pread(map, to, pages * sizeof *to,
                              static_cast<off_t>(address / kPageSize * sizeof *to));
  return got > 0 ? static_cast<std::size_t>(got) / sizeof *to : 0;
}

// Of a page of this process that was read and never written; 0: it cannot be had.
std::uint64_t entry_of_untouched() {
  void* page = ::mmap(nullptr, kPageSize, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return 0;
  static_cast<void>(*static_cast<const volatile char*>(page));
  const UniqueFd map(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  std::uint64_t entry = 0;
  if (!map || read_entries(map.get(), reinterpret_cast<std::uint64_t>(page), &entry, 1) != 1)
    entry = 0;
  ::munmap(page, kPageSize);
  return entry;
}

}  // namespace

std::uint64_t zero_frame() {
  const std::uint64_t entry = entry_of_untouched();
  return (entry & kExclusive) == 0 ? entry & kFrame : 0;
}

// The slower way is right, too.
bool shares_zero_page() {
  const std::uint64_t entry = entry_of_untouched();
  return entry != 0 && (entry & kExclusive) == 0;
}

void add_present(std::vector<LazyRun>& runs, pid_t pid, std::uint64_t address, std::uint64_t pages,
                 std::uint64_t but) {
  const UniqueFd map(
      ::open(("/proc/" + std::to_string(pid) + "/pagemap").c_str(), O_RDONLY | O_CLOEXEC));
  std::array<std::uint64_t, kLook> entries;
  while (map && pages != 0) {
    const std::size_t got =
        read_entries(map.get(), address, entries.data(), std::min(pages, kLook));
    if (got == 0) return;
    for (std::size_t i = 0; i < got; ++i, address += kPageSize) {
      const std::uint64_t entry = entries[i];
      if ((entry & (kPresent | kSwapped)) == 0 || (entry & kOfAFile) != 0) continue;
      if (but != 0 && (entry & kSwapped) == 0 && (entry & kFrame) == but) continue;
      if (!runs.empty() && runs.back().start + runs.back().pages * kPageSize == address)
        ++runs.back().pages;
      else
        runs.push_back({address, 1});
    }
    pages -= got;
  }
}

}  // namespace gob::migration
