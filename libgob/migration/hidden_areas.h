// HiddenAreas: large memory areas whose pages all come on demand, and that CRIU need not look at. It
// would put every page into a pipe though it sends none, which takes longer than all else it does
// during a freeze. A library that is preloaded into it (criu_blinkers.c) shows them to it as one page
// each; meanwhile gobmigrate reads which pages there are; afterwards the images get the areas as they
// are. A CRIU in which that library does not work sees everything, and no harm is done.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/migration/criu_images.h"
#include "libgob/migration/migration.pb.h"

namespace gob::migration {

// The shared library's bytes.
std::string_view blinkers_library();
// Writes it to `folder`; what CRIU's environment has to hold: NAME=VALUE. Nothing is hidden until
// HiddenAreas::hide().
Result<std::vector<std::string>> prepare_blinkers(const std::string& folder);

// Functions are called in the order in which they stand here. One thread.
class HiddenAreas {
 public:
  using Processes = ResidentRequest::Processes;
  // What can be hidden of processes that stand still.
  static HiddenAreas of(const Processes& processes);
  // CRIU, which has not looked at their memory yet, will not see it.
  Status hide(const std::string& folder) const;
  // Which pages do they have? Takes about 50 ns a page.
  void look();
  // CRIU's images are in `folder`: they get the areas as they are. Those that it saw are dropped here.
  Status show(const std::string& folder);
  // Adds the pages to what CRIU saw; of read_lazy_tasks(), after show().
  void add_to(std::vector<LazyTask>& tasks) const;
  [[nodiscard]] std::uint64_t pages() const;  // that CRIU did not see

 private:
  struct Hidden {
    pid_t pid = 0;     // as this side sees it
    pid_t inside = 0;  // as it sees itself
    Area area;
    std::vector<LazyRun> runs;  // the first page aside: CRIU sees that
  };
  std::vector<Hidden> areas_;
};

}  // namespace gob::migration
