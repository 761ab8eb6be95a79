// HiddenAreas: large memory areas whose pages all come on demand, and that CRIU need not look at. It
// would put every page into a pipe though it sends none, which takes longer than all else it does
// during a freeze. A library that is preloaded into it (criu_blinkers.c) shows them to it as one page
// each: it opens a file that gobmigrate writes for it while it does other things. Meanwhile gobmigrate reads
// which pages there are; afterwards the images get the areas as they are. A CRIU in which that library
// does not work sees everything, and no harm is done.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/migration/criu_images.h"
#include "libgob/migration/migration.pb.h"

namespace gob::migration {

// The shared library's bytes.
std::string_view blinkers_library();
// Writes it to `folder`; what CRIU's environment has to hold: NAME=VALUE. Nothing is hidden before
// HiddenAreas::hide().
Result<std::vector<std::string>> prepare_blinkers(const std::string& folder);

// Functions are called in the order in which they stand here. One thread.
class HiddenAreas {
 public:
  using Processes = ResidentRequest::Processes;
  // What is known of processes that run still: what has not changed by the time they stand still need not be
  // looked at then. Optional.
  void foresee(const Processes& processes);
  // What can be hidden of processes that stand still.
  void find(const Processes& processes);
  // CRIU, which has not looked for areas yet, will wait until look() has written which ones it shall see.
  Status hide(const std::string& folder);
  // That, and then: which pages do they have?
  void look();
  // CRIU is through with the processes. Was what it saw of them true? It may have been older than the stop, by
  // the flags of areas: kUnavailable; the images must not be used.
  [[nodiscard]] Status make_sure() const;
  // CRIU's images are in `folder`: they get the areas as they are. Those that it saw are dropped here.
  Status show(const std::string& folder);
  // Adds the pages to what CRIU saw; of read_lazy_tasks(), after show().
  void add_to(std::vector<LazyTask>& tasks) const;
  [[nodiscard]] std::uint64_t pages() const;  // that CRIU did not see

 private:
  // What CRIU reads in place of a process's smaps. It waits for the lock of `file` (flock), and takes it as
  // it is when it may be read by its owner.
  struct View {
    pid_t pid = 0;     // as this side sees it
    pid_t inside = 0;  // as it sees itself
    UniqueFd file;
    std::string shown;  // smaps, before anything is hidden
    bool sure = false;  // read from the process as it stands still
  };
  struct Hidden {
    pid_t pid = 0;     // as this side sees it
    pid_t inside = 0;  // as it sees itself
    Area area;
    std::vector<LazyRun> runs;  // the first page aside: CRIU sees that
  };
  [[nodiscard]] std::string cut(const std::string& smaps, pid_t pid) const;
  std::map<pid_t, std::string> foreseen_;  // smaps, by process
  std::vector<View> views_;
  std::vector<Hidden> areas_;
};

}  // namespace gob::migration
