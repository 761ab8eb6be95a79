#include "libgob/migration/source_guard.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <gob.hpp>

#include "libgob/migration/common_loss.h"
#include "libgob/migration/common_memory.h"
#include "libgob/migration/held_locks.h"
#include "libgob/migration/migrant.h"
#include "libgob/migration/proc.h"
#include "libgob/migration/session.h"
#include "libgob/migration/sharers.h"
#include "libgob/migration/stream_ring.h"
#include "libgob/migration/talk.h"

namespace gob::migration {
namespace {

constexpr int kAnswerMs = 10'000;
constexpr std::chrono::seconds kKeepLocks{10};

// False: the other end is closed.
bool hear(int pipe, void* to, std::size_t bytes) {
  for (std::size_t got = 0; got < bytes;) {
    const ssize_t step = ::read(pipe, static_cast<char*>(to) + got, bytes - got);
    if (step < 0 && errno == EINTR) continue;
    if (step <= 0) return false;
    got += static_cast<std::size_t>(step);
  }
  return true;
}

bool lives(const std::string& socket, const std::string& life) {
  try {
    gobelins::Connection gob(socket);
    gobelins::Mutex lock = gob.mutex(life);
    const auto held = is_held(lock);
    return held && *held;
  } catch (const std::system_error&) {
    return false;
  }
}

// The keeper obeys this after what gobmigrate wanted of it.
void restore_common(CommonLink& common, pid_t root) {
  if (common.join(root)) return;
  for (const pid_t pid : tree_of(root))
    if (!places_of(pid).empty()) lose_common(pid);
}

[[noreturn]] void guard(int pipe, int answers, const std::string& socket,
                        const std::string& session, const std::string& folder, const Plan& plan,
                        CommonLink* common) {
  const pid_t root = plan.pid;
  ::prctl(PR_SET_NAME, "gobmigrate-grd");
  ::setsid();  // no signal of the terminal
  const UniqueFd alive = open_process(root);  // as long as it is ours, `root` is that process
  std::vector<std::string> sessions{session, files_of(session)};
  char state = 0;
  bool locks_offered = false;
  for (char said = 0; hear(pipe, &said, 1);) {
    if (said == 'I') {
      unsigned char size = 0;
      std::string name;
      if (!hear(pipe, &size, 1)) break;
      name.resize(size);
      if (!hear(pipe, name.data(), size)) break;
      sessions.push_back(name);
      continue;
    }
    if (said == 'L') {
      locks_offered = true;
      continue;
    }
    state = said;
    if (said == 'C' && ::write(answers, &said, 1) != 1) break;
  }
  if (state == 'D') {
    if (!plan.moving_addresses.empty()) remove_criu_tables(plan.inside, plan.sockets);
    ::_exit(0);
  }
  pollfd ended{alive.get(), POLLIN, 0};
  const bool there = alive && ::poll(&ended, 1, 0) == 0;
  const bool committed = state == 'C' || state == 'G';
  if (there && committed) signal_tree(root, SIGKILL);
  if (there && state == 'F' && !plan.moving_addresses.empty()) wake_connections(root, plan.sockets);
  if (state != 0 && !plan.moving_addresses.empty()) remove_criu_tables(plan.inside, plan.sockets);
  // The target may have had them for a moment.
  if (state == 'F')
    for (const Address& address : plan.moving_addresses) announce(address);
  if (there && state == 'F' && common != nullptr) restore_common(*common, root);
  if (there && state == 'F') restore_sharers(root, socket);
  if (there && state == 'F' && locks_offered) keep_locks(root, kKeepLocks);
  if (there && state == 'F') signal_tree(root, SIGCONT);
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
  // Containers of earlier moves stay this node's until "go" is said; then all are the target's, if
  // it lives.
  if (state == 'G' && lives(socket, Talk::life_of(session, End::kTarget))) ::_exit(0);
  if (!committed) {
    sessions.resize(2);
    sessions.push_back(record_of(session));
    sessions.push_back(streams_of(record_of(session)));
  }
  for (const std::string& each : sessions) static_cast<void>(remove_session(socket, each));
  ::_exit(0);
}

}  // namespace

void signal_tree(pid_t root, int signal) {
  for (const pid_t pid : tree_of(root)) ::kill(pid, signal);
}

Result<SourceGuard> SourceGuard::start(const std::string& socket, const std::string& session,
                                       const std::string& folder, const Plan& plan,
                                       CommonLink* common) {
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
    guard(read_end.get(), answer.get(), socket, session, folder, plan, common);
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

Status SourceGuard::committed(const std::vector<std::string>& inherited) {
  for (const std::string& session : inherited) {
    say('I');
    say(static_cast<char>(session.size()));
    for (const char each : session) say(each);
  }
  say('C');
  pollfd answer{answers_.get(), POLLIN, 0};
  char said = 0;
  if (::poll(&answer, 1, kAnswerMs) != 1 || ::read(answers_.get(), &said, 1) != 1)
    return make_error(ErrorCode::kUnavailable, "the guard of the stopped process is gone");
  return {};
}

}  // namespace gob::migration
