// ContextDump: CRIU at the source. It is started first, and looks at the kernel, which takes longer
// than what follows; only then the process is frozen. One thread.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/migration/criu.h"

namespace gob::migration {

struct DumpOptions {
  std::string criu;
  pid_t inside = 0;    // the process, as it sees itself
  pid_t beside = 0;    // in whose namespaces CRIU runs; 0: in ours
  std::string folder;  // for the images
  bool lazy = true;    // leave out what can come on demand
  bool connections = false;  // of TCP: with them
  std::vector<std::string> external;  // what it is not to look into
  int keep = -1;       // a descriptor that CRIU holds as long as it lives
  std::vector<std::string> environment;  // NAME=VALUE, for CRIU
};

// Functions are called in the order in which they stand here.
class ContextDump {
 public:
  // Returns when CRIU is about to freeze the process; it has not been touched yet.
  static Result<ContextDump> start(const DumpOptions& options);
  // CRIU begins to work on the process.
  Status go_on();
  // Returns when the images are written, while CRIU lets go of the process; false: CRIU says so only
  // by its end. It always has to be waited for.
  bool await_images();
  // Returns when CRIU has ended, and left the process stopped. kLost: CRIU died at work, and the
  // process may be in any state.
  Status end();

 private:
  ContextDump(std::string folder, Child child) : folder_(std::move(folder)), child_(std::move(child)) {}
  [[nodiscard]] Error failed(int status) const;
  std::string folder_;
  Child child_;
  UniqueFd gate_;     // CRIU reads an image from here; closed before: it gives up
  UniqueFd pages_;    // to CRIU's page server
  UniqueFd written_;  // CRIU says here that the context is written
  std::uint64_t looked_ = 0;  // bytes of its log that are of its looks at the kernel
};

}  // namespace gob::migration
