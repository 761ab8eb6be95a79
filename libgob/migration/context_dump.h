// ContextDump: CRIU at the source. It is started first, and looks at the kernel, which takes longer
// than what follows; only then the process is frozen. One thread.
#pragma once

#include <sys/types.h>

#include <string>

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
  int keep = -1;       // a descriptor that CRIU holds as long as it lives
};

class ContextDump {
 public:
  // Returns when CRIU is about to freeze the process; it has not been touched yet.
  static Result<ContextDump> start(const DumpOptions& options);
  // CRIU goes on: the process is stopped and its images are written when this returns. kLost: CRIU
  // died at work, and the process may be in any state.
  Status finish();

 private:
  ContextDump(std::string folder, Child child) : folder_(std::move(folder)), child_(std::move(child)) {}
  Error failed(int status) const;
  std::string folder_;
  Child child_;
  UniqueFd gate_;     // what is written here lets CRIU go on; closed before: it gives up
  UniqueFd pages_;    // to CRIU's page server
  UniqueFd written_;  // CRIU says here that the context is written
};

}  // namespace gob::migration
