#include "libgob/migration/left_out.h"

#include <algorithm>
#include <cerrno>
#include <sstream>

#include "libgob/base/ids.h"
#include "libgob/migration/lazy_ranges.h"
#include "libgob/migration/page_map.h"

namespace gob::migration {

Status add_left_out(pid_t pid, LazyTask& task) {
  std::vector<LazyRun> found;
  std::vector<LazyRun> saved = task.saved;
  std::ranges::sort(saved, {}, &LazyRun::start);
  for (const Area& area : task.areas) {
    if (area.looked_at) continue;
    LazyRanges unseen;
    unseen.add(area.start, 0, (area.end - area.start) / kPageSize);
    auto run = std::ranges::partition_point(saved, [&](const LazyRun& each) {
      return each.start + each.pages * kPageSize <= area.start;
    });
    for (; run != saved.end() && run->start < area.end; ++run)
      unseen.drop(run->start, run->start + run->pages * kPageSize);
    std::vector<LazyRun> here;  // no run reaches into the next area
    for (const LazyRanges::Run& left : unseen.runs())
      add_present(here, pid, left.address, left.pages);
    if (area.lazy || here.empty()) {
      found.insert(found.end(), here.begin(), here.end());
      continue;
    }
    std::ostringstream where;
    where << std::hex << here.front().start;
    return make_error(ErrorCode::kUnavailable,
                      "CRIU left out page 0x" + where.str() + " of process " + std::to_string(pid) +
                          ", which it took for one of zeros; move the process once more, or use "
                          "CRIU 4",
                      EAGAIN);
  }
  task.runs.insert(task.runs.end(), found.begin(), found.end());
  task.saved.insert(task.saved.end(), found.begin(), found.end());
  return {};
}

}  // namespace gob::migration
