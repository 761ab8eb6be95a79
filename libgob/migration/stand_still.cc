#include "libgob/migration/stand_still.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <string_view>
#include <thread>
#include <vector>

#include "libgob/migration/inspect.h"
#include "libgob/migration/proc.h"
#include "libgob/migration/source_guard.h"

namespace gob::migration {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::microseconds kLook{200};  // a stop has no event for others than the parent
constexpr std::chrono::seconds kStop{5};
constexpr std::chrono::milliseconds kFirstPause{1};
constexpr std::chrono::milliseconds kLastPause{50};

bool thread_stands(const fs::path& thread) {
  std::ifstream file(thread / "stat");
  std::string line;
  std::getline(file, line);
  const std::size_t at = line.rfind(") ");
  // Gone, a zombie, or stopped.
  return at == std::string::npos ||
         std::string_view("TtZX").find(line[at + 2]) != std::string_view::npos;
}

bool stands(pid_t pid) {
  std::error_code error;
  for (fs::directory_iterator it(proc(pid, "task"), error), end; !error && it != end;
       it.increment(error))
    if (!thread_stands(it->path())) return false;
  return true;
}

// A child that was made just before its parent stopped is stopped, too. One whose parent was ending
// just then belongs to the process no more: it stays, and goes on.
Status stop_all(pid_t root) {
  const auto deadline = Clock::now() + kStop;
  std::set<pid_t> told;
  while (true) {
    bool all = true;
    const std::vector<pid_t> tree = tree_of(root);
    for (const pid_t pid : tree) {
      if (told.insert(pid).second) {
        ::kill(pid, SIGSTOP);
        all = false;
      } else {
        all = all && stands(pid);
      }
    }
    const bool late = Clock::now() > deadline;
    if ((all && tree_of(root) == tree) || late) {
      for (const pid_t pid : told)
        if (std::ranges::find(tree, pid) == tree.end()) ::kill(pid, SIGCONT);
      if (!late) return {};
      return make_error(ErrorCode::kTimedOut,
                        "process " + std::to_string(root) +
                            " does not stop: one of its threads waits in the kernel, for a disk?");
    }
    std::this_thread::sleep_for(kLook);
  }
}

}  // namespace

Result<Clock::time_point> stand_still(pid_t root, std::chrono::milliseconds limit,
                                      const std::function<const HeldLocks&()>& locks) {
  const auto deadline = Clock::now() + limit;
  for (auto pause = kFirstPause;; pause = std::min(2 * pause, kLastPause)) {
    const auto since = Clock::now();
    if (Status stopped = stop_all(root); !stopped) return stopped.error();
    const HeldLocks& held = locks();
    if (held.staying.empty()) return since;
    if (Clock::now() > deadline) {
      const HeldLocks::Staying& first = held.staying.front();
      return make_error(ErrorCode::kUnavailable,
                        first.path + " was locked whenever it was looked at, for " +
                            std::to_string(limit.count()) + " ms, and this lock cannot go along: " +
                            first.why + "; move the process when it does not hold it");
    }
    signal_tree(root, SIGCONT);
    std::this_thread::sleep_for(pause);
  }
}

}  // namespace gob::migration
