// ParentHold: keeps the shell that waits for a job from seeing it stand still. It would take the
// terminal back, and after a move that failed the job would be in the background. So the shell
// stands still as well, being traced, which nobody notices, not even it.
#pragma once

#include <sys/types.h>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"

namespace gob::migration {

class ParentHold {
 public:
  // Forks: to be called before there are threads, and before the guard, so that this has the other
  // end open as long as the job may stand still. Nothing happens to `parent` yet.
  static Result<ParentHold> prepare(pid_t parent);
  // Returns when the parent stands still. If it cannot be traced, it just sees what happens.
  void hold();
  // It goes on once the guard has ended, too.
  void release() { pipe_.reset(); }

 private:
  ParentHold(UniqueFd pipe, UniqueFd answers)
      : pipe_(std::move(pipe)), answers_(std::move(answers)) {}
  UniqueFd pipe_, answers_;
};

}  // namespace gob::migration
