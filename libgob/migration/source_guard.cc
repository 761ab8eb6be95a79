#include "libgob/migration/source_guard.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "libgob/migration/inspect.h"
#include "libgob/migration/session.h"

namespace gob::migration {
namespace {

constexpr int kAnswerMs = 10'000;

[[noreturn]] void guard(int pipe, int answers, const std::string& socket,
                        const std::string& session, const std::string& folder, pid_t root) {
  ::prctl(PR_SET_NAME, "gobmigrate-grd");
  ::setsid();  // no signal of the terminal
  const UniqueFd alive(static_cast<int>(
      ::syscall(SYS_pidfd_open, root, 0)));  // as long as it is ours, `root` is that process
  char state = 0;
  for (char said = 0;;) {
    const ssize_t got = ::read(pipe, &said, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    state = said;
    if (said == 'C' && ::write(answers, &said, 1) != 1) break;
  }
  if (state == 'D') ::_exit(0);
  pollfd ended{alive.get(), POLLIN, 0};
  const bool there = alive && ::poll(&ended, 1, 0) == 0;
  if (there && state == 'F') signal_tree(root, SIGCONT);
  if (there && state == 'C') signal_tree(root, SIGKILL);
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
  static_cast<void>(remove_session(socket, session));
  ::_exit(0);
}

}  // namespace

void signal_tree(pid_t root, int signal) {
  for (const pid_t pid : tree_of(root)) ::kill(pid, signal);
}

Result<SourceGuard> SourceGuard::start(const std::string& socket, const std::string& session,
                                       const std::string& folder, pid_t root) {
  int down[2];
  int up[2];
  if (::pipe2(down, O_CLOEXEC) != 0) return system_error("creating a pipe");
  UniqueFd read_end(down[0]);
  UniqueFd write_end(down[1]);
  if (::pipe2(up, O_CLOEXEC) != 0) return system_error("creating a pipe");
  UniqueFd answers(up[0]);
  UniqueFd answer(up[1]);
  const pid_t pid = ::fork();
  if (pid < 0) return system_error("starting the guard of the process");
  if (pid == 0) {
    write_end.reset();
    answers.reset();
    guard(read_end.get(), answer.get(), socket, session, folder, root);
  }
  return SourceGuard(std::move(write_end), std::move(answers), pid);
}

SourceGuard::~SourceGuard() {
  if (!pipe_) return;
  pipe_.reset();
  ::waitpid(pid_, nullptr, 0);
}

void SourceGuard::say(char what) {
  // A guard that is gone is noticed by committed(), the only moment that depends on it.
  if (::write(pipe_.get(), &what, 1) != 1) return;
}

Status SourceGuard::committed() {
  say('C');
  pollfd answer{answers_.get(), POLLIN, 0};
  char said = 0;
  if (::poll(&answer, 1, kAnswerMs) != 1 || ::read(answers_.get(), &said, 1) != 1)
    return make_error(ErrorCode::kUnavailable, "the guard of the stopped process is gone");
  return {};
}

}  // namespace gob::migration
