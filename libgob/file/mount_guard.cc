#include "libgob/file/mount_guard.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <utility>

#include "libgob/base/unique_fd.h"
#include "libgob/file/mount_point.h"

namespace gob::file {

namespace {

constexpr int kParentEnded = SIGUSR1;

// Only calls that are safe after a fork of a program with threads.
[[noreturn]] void keep_watch(pid_t gobd, int abort) {
  // Whoever stops a whole group of processes means gobd, which stops the guard.
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_BLOCK, &all, nullptr);
  ::prctl(PR_SET_NAME, "gob-mount-guard");
  ::prctl(PR_SET_PDEATHSIG, kParentEnded);
  if (abort > 0) ::close_range(0, static_cast<unsigned>(abort) - 1, 0);
  ::close_range(static_cast<unsigned>(abort) + 1, ~0u, 0);
  sigset_t ended;
  ::sigemptyset(&ended);
  ::sigaddset(&ended, kParentEnded);
  int signal = 0;
  // It may have ended before it could be asked to say so.
  while (::getppid() == gobd && ::sigwait(&ended, &signal) != 0) {
  }
  static_cast<void>(!::write(abort, "1", 1));
  ::_exit(0);
}

}  // namespace

Result<MountGuard> MountGuard::start(const std::string& path) {
  const UniqueFd abort = open_abort(path);
  if (!abort) return system_error("cannot open the kernel's switch for the mount at " + path);
  const pid_t gobd = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return system_error("cannot start the guard of the mount");
  if (pid == 0) keep_watch(gobd, abort.get());
  return MountGuard(pid);
}

MountGuard::MountGuard(MountGuard&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}

MountGuard& MountGuard::operator=(MountGuard&& other) noexcept {
  std::swap(pid_, other.pid_);
  return *this;
}

MountGuard::~MountGuard() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace gob::file
