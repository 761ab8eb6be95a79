#include "libgob/migration/stand_still.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <string_view>
#include <thread>

#include "libgob/base/unique_fd.h"
#include "libgob/migration/file_facts.h"
#include "libgob/migration/inspect.h"
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
  for (fs::directory_iterator it("/proc/" + std::to_string(pid) + "/task", error), end;
       !error && it != end; it.increment(error))
    if (!thread_stands(it->path())) return false;
  return true;
}

// A child that was made just before its parent stopped is stopped, too.
Status stop_all(pid_t root) {
  const auto deadline = Clock::now() + kStop;
  std::set<pid_t> told;
  while (true) {
    bool all = true;
    for (const pid_t pid : tree_of(root)) {
      if (told.insert(pid).second) {
        ::kill(pid, SIGSTOP);
        all = false;
      } else {
        all = all && stands(pid);
      }
    }
    if (all) return {};
    if (Clock::now() > deadline)
      return make_error(ErrorCode::kTimedOut,
                        "process " + std::to_string(root) +
                            " does not stop: one of its threads waits in the kernel, for a disk?");
    std::this_thread::sleep_for(kLook);
  }
}

bool has_lock(const std::string& fdinfo) {
  std::ifstream file(fdinfo);
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("lock:")) return true;
  return false;
}

// Locks in a gob mount are kept at the file's home; this kernel shows none of them.
bool is_locked_at_home(const std::string& link) {
  struct stat rights {};
  const bool writable = ::lstat(link.c_str(), &rights) == 0 && (rights.st_mode & S_IWUSR) != 0;
  const UniqueFd file(
      ::open(link.c_str(), (writable ? O_WRONLY : O_RDONLY) | O_CLOEXEC | O_NONBLOCK));
  if (!file) return true;  // it cannot be told
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  if (::fcntl(file.get(), F_GETLK, &lock) != 0 || lock.l_type != F_UNLCK) return true;
  return ::flock(file.get(), LOCK_EX | LOCK_NB) != 0;  // given back with the descriptor
}

}  // namespace

std::optional<std::string> locked_file(pid_t root) {
  std::set<std::pair<std::uint64_t, std::uint64_t>> asked;
  for (const pid_t pid : tree_of(root)) {
    const std::string process = "/proc/" + std::to_string(pid);
    const NetworkMounts mounts(process + "/mountinfo");
    std::error_code error;
    for (fs::directory_iterator it(process + "/fd", error), end; !error && it != end;
         it.increment(error)) {
      const std::string link = it->path();
      std::error_code ignored;
      if (has_lock(process + "/fdinfo/" + it->path().filename().string()))
        return fs::read_symlink(link, ignored).string();
      const auto file = facts_of(link, mounts);
      if (!file || file->folder() || !file->server().starts_with("fuse.gob ") ||
          !asked.insert({file->device(), file->inode()}).second)
        continue;
      if (is_locked_at_home(link)) return fs::read_symlink(link, ignored).string();
    }
  }
  return std::nullopt;
}

Result<Clock::time_point> stand_still(pid_t root, std::chrono::milliseconds limit) {
  const auto deadline = Clock::now() + limit;
  for (auto pause = kFirstPause;; pause = std::min(2 * pause, kLastPause)) {
    const auto since = Clock::now();
    if (Status stopped = stop_all(root); !stopped) return stopped.error();
    const auto locked = locked_file(root);
    if (!locked) return since;
    if (Clock::now() > deadline)
      return make_error(ErrorCode::kUnavailable,
                        *locked + " was locked whenever it was looked at, for " +
                            std::to_string(limit.count()) +
                            " ms, and a lock cannot go along; move the process when it holds none");
    signal_tree(root, SIGCONT);
    std::this_thread::sleep_for(pause);
  }
}

}  // namespace gob::migration
