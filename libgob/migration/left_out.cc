#include "libgob/migration/left_out.h"

#include <cerrno>
#include <sstream>

#include "libgob/base/ids.h"
#include "libgob/migration/lazy_ranges.h"
#include "libgob/migration/page_map.h"

namespace gob::migration {

Status add_left_out(pid_t pid, LazyTask& task) {
  std::vector<LazyRun> found;
  for (const Area& area : task.areas) {
    if (area.looked_at) continue;
    LazyRanges unseen;
    unseen.add(area.start, 0, (area.end - area.start) / kPageSize);
    for (const LazyRun& run : task.saved)
      unseen.drop(run.start, run.start + run.pages * kPageSize);
    std::vector<LazyRun> here;  // no run reaches into the next area
    for (const LazyRanges::Run& run : unseen.runs())
      add_present(here, pid, run.address, run.pages);
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
