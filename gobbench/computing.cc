#include "gobbench/computing.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <utility>
#include <vector>

#include "gobbench/process.h"
#include "libgob/linker/cache_sweep.h"

namespace gob::bench {

Result<Computing> Computing::start(unsigned cpu, std::size_t bytes) {
  std::vector<double> memory(bytes /
                             sizeof(double));  // before the fork: the child allocates nothing
  const PinnedThread pinned(cpu);              // the child stays there
  const pid_t pid = ::fork();
  if (pid < 0) return system_error("cannot start a process that computes");
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) sweep_cache(memory);
  }
  return Computing(pid);
}

Computing::Computing(Computing&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}

Computing::~Computing() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

}  // namespace gob::bench
