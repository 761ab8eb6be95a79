#include "gobbench/leftovers.h"

#include <mntent.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <system_error>
#include <vector>

#include "libgob/base/unique_fd.h"

namespace gob::bench {
namespace {

constexpr std::size_t kMostPath = 4096;
// Daemons that wrote there end about when gobbench does.
constexpr int kTries = 100;
constexpr useconds_t kPauseUs = 50'000;

// The mount points below `directory`, the innermost last.
std::vector<std::string> mounts_below(const std::string& directory) {
  std::vector<std::string> found;
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> table(::setmntent("/proc/self/mounts", "r"),
                                                              ::endmntent);
  if (!table) return found;
  while (const mntent* entry = ::getmntent(table.get()))
    if (std::string(entry->mnt_dir).starts_with(directory + "/"))
      found.emplace_back(entry->mnt_dir);
  return found;
}

bool remove(const std::string& directory) {
  const std::vector<std::string> mounts = mounts_below(directory);
  for (auto it = mounts.rbegin(); it != mounts.rend(); ++it)
    static_cast<void>(::umount2(it->c_str(), MNT_DETACH | UMOUNT_NOFOLLOW));
  // What is still mounted are somebody's files.
  if (!mounts_below(directory).empty()) return false;
  std::error_code error;
  std::filesystem::remove_all(directory, error);
  return !error;
}

// Hears of directories until gobbench ends, however it does.
[[noreturn]] void outlive(int socket) {
  ::prctl(PR_SET_NAME, "gobbench-rm");
  ::setsid();  // what interrupts gobbench is not meant for this
  if (socket > 0) ::close_range(0, static_cast<unsigned>(socket) - 1, 0);
  ::close_range(static_cast<unsigned>(socket) + 1, ~0U, 0);
  std::vector<std::string> directories;
  std::array<char, kMostPath> path{};
  for (ssize_t got = 0; (got = ::recv(socket, path.data(), path.size(), 0)) > 0;)
    directories.emplace_back(path.data(), static_cast<std::size_t>(got));
  for (const std::string& directory : directories)
    for (int tries = 0; tries < kTries && !remove(directory); ++tries) ::usleep(kPauseUs);
  ::_exit(0);
}

// Tells the process that outlives this one, which is there from the first directory on.
Status tell(const std::string& path) {
  static UniqueFd socket;
  if (!socket) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
      return system_error("cannot make a socket pair");
    UniqueFd ours(ends[0]);
    const UniqueFd theirs(ends[1]);
    const pid_t pid = ::fork();
    if (pid < 0) return system_error("cannot fork");
    if (pid == 0) {
      ours.reset();
      outlive(theirs.get());
    }
    socket = std::move(ours);
  }
  if (::send(socket.get(), path.data(), path.size(), MSG_NOSIGNAL) < 0)
    return system_error("cannot have " + path + " removed at the end");
  return {};
}

}  // namespace

Result<TemporaryDirectory> TemporaryDirectory::create(std::string base) {
  const char* usual = std::getenv("TMPDIR");
  const bool is_usual = base.empty();
  if (is_usual) base = usual != nullptr && *usual != '\0' ? usual : "/tmp";
  std::string path = base + "/gobbench-XXXXXX";
  if (::mkdtemp(path.data()) == nullptr)
    return system_error("cannot make a directory " + path +
                        (is_usual ? "; set TMPDIR to a writable place" : ""));
  TemporaryDirectory made(std::filesystem::absolute(path));
  if (Status told = tell(made.path()); !told) return told.error();
  return made;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;  // nobody is left to tell
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

}  // namespace gob::bench
