#include "libgob/migration/left_out.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "libgob/base/ids.h"
#include "libgob/base/unique_fd.h"
#include "libgob/migration/inspect.h"
#include "libgob/migration/lazy_ranges.h"

namespace gob::migration {
namespace {
constexpr std::uint64_t kLookPages = 1 << 16;  // at a time

// Has nobody but this process the page at `address`?
bool is_own(const void* address) {
  constexpr std::uint64_t kExclusive = std::uint64_t{1} << 56;
  const UniqueFd map(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  std::uint64_t entry = 0;
  const auto at = reinterpret_cast<std::uint64_t>(address) / kPageSize * sizeof entry;
  return !map || ::pread(map.get(), &entry, sizeof entry, static_cast<off_t>(at)) != sizeof entry ||
         (entry & kExclusive) != 0;
}

}  // namespace

bool shares_zero_page() {
  void* page = ::mmap(nullptr, kPageSize, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return false;  // the slower way is right, too
  static_cast<void>(*static_cast<const volatile char*>(page));
  const bool own = is_own(page);
  ::munmap(page, kPageSize);
  return !own;
}

Status add_left_out(pid_t pid, LazyTask& task) {
  std::vector<LazyRun> found;
  for (const Area& area : task.areas) {
    LazyRanges unseen;
    unseen.add(area.start, 0, (area.end - area.start) / kPageSize);
    for (const LazyRun& run : task.saved)
      unseen.drop(run.start, run.start + run.pages * kPageSize);
    for (const LazyRanges::Run& run : unseen.runs()) {
      for (std::uint64_t at = 0; at < run.pages; at += kLookPages) {
        for (const std::uint64_t page : present_pages(pid, run.address + at * kPageSize,
                                                      std::min(kLookPages, run.pages - at))) {
          if (!area.lazy) {
            std::ostringstream where;
            where << std::hex << page;
            return make_error(ErrorCode::kUnavailable,
                              "CRIU left out page 0x" + where.str() + " of process " +
                                  std::to_string(pid) +
                                  ", which it took for one of zeros; move the process once more, or "
                                  "use CRIU 4");
          }
          found.push_back({page, 1});
        }
      }
    }
  }
  task.runs.insert(task.runs.end(), found.begin(), found.end());
  task.saved.insert(task.saved.end(), found.begin(), found.end());
  return {};
}

}  // namespace gob::migration
