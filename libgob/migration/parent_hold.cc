#include "libgob/migration/parent_hold.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <vector>

#include "libgob/base/pipe.h"
#include "libgob/migration/proc.h"

namespace gob::migration {
namespace {

namespace fs = std::filesystem;

constexpr int kAnswerMs = 2000;
constexpr std::chrono::seconds kStop{1};

sigset_t stop_signal() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  return set;
}

// SIGCHLD, which tells of stops of what is traced, is blocked.
bool stops(pid_t thread) {
  if (::ptrace(PTRACE_SEIZE, thread, nullptr, nullptr) != 0) return false;
  if (::ptrace(PTRACE_INTERRUPT, thread, nullptr, nullptr) != 0) return false;
  const sigset_t stop = stop_signal();
  const auto deadline = std::chrono::steady_clock::now() + kStop;
  while (::waitpid(thread, nullptr, __WALL | WNOHANG) == 0) {
    const auto left = deadline - std::chrono::steady_clock::now();
    if (left <= left.zero()) return false;
    const timespec limit{0, std::chrono::nanoseconds(std::min<std::chrono::nanoseconds>(
                                                         left, std::chrono::milliseconds(999)))
                                .count()};
    ::sigtimedwait(&stop, nullptr, &limit);
  }
  return true;
}

// When this process ends, the kernel lets go of what it traces.
[[noreturn]] void hold_it(pid_t parent, const UniqueFd& pipe, const UniqueFd& answer) {
  ::prctl(PR_SET_NAME, "gobmigrate-hld");
  ::setsid();  // no signal of the terminal
  const sigset_t stop = stop_signal();
  ::signal(SIGCHLD, SIG_DFL);
  ::sigprocmask(SIG_BLOCK, &stop, nullptr);
  char word = 0;
  if (TEMP_FAILURE_RETRY(::read(pipe.get(), &word, 1)) != 1) ::_exit(0);
  std::error_code error;
  bool all = true;
  for (fs::directory_iterator it(proc(parent, "task"), error), end; all && !error && it != end;
       it.increment(error))
    all = stops(static_cast<pid_t>(std::strtol(it->path().filename().c_str(), nullptr, 10)));
  if (!all) ::_exit(1);
  if (::write(answer.get(), &word, 1) != 1) ::_exit(1);
  static_cast<void>(TEMP_FAILURE_RETRY(::read(pipe.get(), &word, 1)));
  ::_exit(0);
}

}  // namespace

Result<ParentHold> ParentHold::prepare(pid_t parent) {
  auto down = make_pipe();
  auto up = make_pipe();
  if (!down) return down.error();
  if (!up) return up.error();
  const pid_t middle = ::fork();
  if (middle < 0) return system_error("starting what holds the shell");
  if (middle == 0) {
    // Nobody waits for it: a child of process 1.
    if (::fork() != 0) ::_exit(0);
    down->in.reset();
    up->out.reset();
    hold_it(parent, down->out, up->in);
  }
  ::waitpid(middle, nullptr, 0);
  return ParentHold(std::move(down->in), std::move(up->out));
}

void ParentHold::hold() {
  char word = 'h';
  if (::write(pipe_.get(), &word, 1) != 1) return;
  pollfd answer{answers_.get(), POLLIN, 0};
  if (::poll(&answer, 1, kAnswerMs) == 1 && ::read(answers_.get(), &word, 1) == 1) return;
}

}  // namespace gob::migration
