#include "libgob/migration/page_map.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <span>
#include <string>

#include "libgob/base/ids.h"
#include "libgob/base/unique_fd.h"
#include "libgob/migration/proc.h"

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

// PAGEMAP_SCAN, from Linux 6.7 on, later than the headers of Debian 12: see the kernel's
// Documentation/admin-guide/mm/pagemap.rst. It takes a tenth of the time.
struct ScanRegion {
  std::uint64_t start, end, categories;
};
struct ScanRequest {
  std::uint64_t size, flags, start, end, walk_end, regions, region_count, max_pages;
  std::uint64_t inverted, needed, any_of, told;  // categories
};
static_assert(sizeof(ScanRegion) == 24 && sizeof(ScanRequest) == 96);
constexpr unsigned long kScan = _IOWR('f', 16, ScanRequest);
constexpr std::uint64_t kScanPresent = 1 << 3;
constexpr std::uint64_t kScanSwapped = 1 << 4;
constexpr std::uint64_t kScanZeros = 1 << 5;  // the shared page of zeros

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

void add_pages(std::vector<LazyRun>& runs, std::uint64_t address, std::uint64_t pages) {
  if (!runs.empty() && runs.back().start + runs.back().pages * kPageSize == address)
    runs.back().pages += pages;
  else
    runs.push_back({address, pages});
}

// add_written() by the kernel's own search: the address up to which it got, `address` on a kernel that has
// none.
std::uint64_t scan(std::vector<LazyRun>& runs, int map, std::uint64_t address, std::uint64_t end) {
  std::array<ScanRegion, 64> regions;
  while (address < end) {
    ScanRequest request{};
    request.size = sizeof request;
    request.start = address;
    request.end = end;
    request.regions = reinterpret_cast<std::uint64_t>(regions.data());
    request.region_count = regions.size();
    request.inverted = request.needed = kScanZeros;
    request.any_of = kScanPresent | kScanSwapped;
    request.told = kScanPresent;
    const int found = ::ioctl(map, kScan, &request);
    if (found < 0 || request.walk_end <= address) return address;
    for (const ScanRegion& region : std::span(regions).first(static_cast<std::size_t>(found)))
      add_pages(runs, region.start, (region.end - region.start) / kPageSize);
    address = request.walk_end;
  }
  return address;
}

// `but`: a frame whose pages do not count; 0: none.
void read_present(std::vector<LazyRun>& runs, int map, std::uint64_t address, std::uint64_t pages,
                  std::uint64_t but) {
  std::array<std::uint64_t, kLook> entries;
  while (pages != 0) {
    const std::size_t got = read_entries(map, address, entries.data(), std::min(pages, kLook));
    if (got == 0) return;
    for (std::size_t i = 0; i < got; ++i, address += kPageSize) {
      const std::uint64_t entry = entries[i];
      if ((entry & (kPresent | kSwapped)) == 0 || (entry & kOfAFile) != 0) continue;
      if (but != 0 && (entry & kSwapped) == 0 && (entry & kFrame) == but) continue;
      add_pages(runs, address, 1);
    }
    pages -= got;
  }
}

UniqueFd page_map_of(pid_t pid) {
  return UniqueFd(::open(proc(pid, "pagemap").c_str(), O_RDONLY | O_CLOEXEC));
}

}  // namespace

// The slower way is right, too.
bool shares_zero_page() {
  const std::uint64_t entry = entry_of_untouched();
  return entry != 0 && (entry & kExclusive) == 0;
}

void add_present(std::vector<LazyRun>& runs, pid_t pid, std::uint64_t address, std::uint64_t pages) {
  if (const UniqueFd map = page_map_of(pid)) read_present(runs, map.get(), address, pages, 0);
}

void add_written(std::vector<LazyRun>& runs, pid_t pid, std::uint64_t address, std::uint64_t pages) {
  const UniqueFd map = page_map_of(pid);
  if (!map) return;
  const std::uint64_t end = address + pages * kPageSize;
  address = scan(runs, map.get(), address, end);
  if (address == end) return;
  const std::uint64_t zeros = entry_of_untouched();
  read_present(runs, map.get(), address, (end - address) / kPageSize,
               (zeros & kExclusive) == 0 ? zeros & kFrame : 0);
}

}  // namespace gob::migration
