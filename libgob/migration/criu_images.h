// CRIU's image files, as far as memory and timers go. Pure functions over the bytes of the files.
#pragma once

#include <sys/time.h>
#include <sys/types.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "libgob/base/result.h"

namespace gob::migration {

// Pages of a process that CRIU left out of its images, [start, start + pages * 4096), inside one
// memory area.
struct LazyRun {
  std::uint64_t start = 0;
  std::uint64_t pages = 0;
  bool operator==(const LazyRun&) const = default;
};

// A private memory area, [start, end).
struct Area {
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  bool lazy = false;       // may its pages stay out of the images?
  bool looked_at = false;  // all of its pages are known, whether CRIU saw them or not
  bool operator==(const Area&) const = default;
};

struct LazyTask {
  pid_t pid = 0;
  std::vector<Area> areas;     // ascending
  std::vector<LazyRun> runs;   // ascending
  std::vector<LazyRun> saved;  // every page CRIU saw, lazy or in its images
};

// The processes in `folder`/pstree.img, parents first.
Result<std::vector<pid_t>> read_processes(const std::string& folder);
// A timer of setitimer(2) that expires once, as that of alarm(2).
struct Alarm {
  pid_t pid = 0;
  int which = 0;  // ITIMER_REAL, ...
  timeval left{};
};
// Those of all processes. CRIU restores none that has no period.
Result<std::vector<Alarm>> read_alarms(const std::string& folder);
// Every process with its lazy pages, in the order of read_processes(): the same at both ends.
Result<std::vector<LazyTask>> read_lazy_tasks(const std::string& folder);

// Areas in the file mm-N.img at `path` that are one page long become as long as `ends` says, by start;
// `changed`: their starts. The file stays as it is if nothing changes. kProtocol: an area is not there,
// or has yet another end.
Status lengthen_areas(const std::string& path, const std::map<std::uint64_t, std::uint64_t>& ends,
                      std::set<std::uint64_t>& changed);

// Terminals in `folder` are of no session: CRIU would look for the first process of that one among those it
// makes. Nothing happens if there are none.
Status forget_session(const std::string& folder);

// Exposed for tests: from the bytes of pagemap-N.img and mm-N.img. kProtocol if they are none.
Result<std::vector<LazyRun>> lazy_runs(const std::string& pagemap, const std::string& mm);
// Of pagemap-N.img: all pages.
Result<std::vector<LazyRun>> saved_runs(const std::string& pagemap);
// Of mm-N.img: those areas whose pages CRIU looks for, the vdso aside.
Result<std::vector<Area>> private_areas(const std::string& mm);

}  // namespace gob::migration
