// SourceGuard: a process of its own that outlives gobmigrate. Whatever happens to gobmigrate
// between the freeze and the end, no stopped process is left behind: before the take-over it is
// continued, after it, killed.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/migration/common_link.h"
#include "libgob/migration/inspect.h"

namespace gob::migration {

class SourceGuard {
 public:
  // Forks: to be called before there are threads or connections.
  // `folder` holds the source's images: the guard removes it if gobmigrate cannot. `common`: null if
  // the process has no memory in common with others.
  static Result<SourceGuard> start(const std::string& socket, const std::string& session,
                                   const std::string& folder, const Plan& plan, CommonLink* common);
  SourceGuard(SourceGuard&&) noexcept = default;
  SourceGuard& operator=(SourceGuard&&) = delete;
  // Lets it go: it does what is left to do.
  ~SourceGuard();

  // CRIU keeps this open as well: the guard acts once both are gone.
  [[nodiscard]] int fd() const { return pipe_.get(); }
  void freezing() { say('F'); }
  // Locks may be held at the target, too, from now on; if the process goes on here, no more.
  void offers_locks() { say('L'); }
  // From here on the source never runs again. The guard knows when this returns. `inherited`:
  // sessions of earlier moves, and what they have attached, which goes to the target.
  Status committed(const std::vector<std::string>& inherited);
  // The target has been told to let it run.
  void gone() { say('G'); }
  // Nothing is left to do for the guard.
  void done() { say('D'); }

 private:
  SourceGuard(UniqueFd pipe, UniqueFd answers, pid_t pid)
      : pipe_(std::move(pipe)), answers_(std::move(answers)), pid_(pid) {}
  void say(char what);
  UniqueFd pipe_;
  UniqueFd answers_;
  pid_t pid_;
};

// Sends a signal to the process and all its descendants.
void signal_tree(pid_t root, int signal);

}  // namespace gob::migration
