#include "libgob/migration/common_link.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sstream>

#include "libgob/migration/common_keeper.h"

namespace gob::migration {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kPrepare{120};
constexpr std::chrono::seconds kShare{60};
constexpr int kLink = 3;
constexpr std::size_t kMostReply = 4096;

}  // namespace

Result<CommonLink> CommonLink::start(const std::string& socket, bool log) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
    return system_error("making a socket pair");
  UniqueFd ours(pair[0]);
  UniqueFd theirs(pair[1]);
  const std::string number = std::to_string(kLink);
  const char* const argv[] = {"gobmigrate", "keep",         number.c_str(),
                              "--socket",   socket.c_str(), nullptr};
  const pid_t pid = ::fork();
  if (pid < 0) return system_error("starting the keeper of shared memory");
  if (pid == 0) {
    // Nobody has to reap it.
    if (::setsid() < 0 || ::fork() != 0) ::_exit(0);
    const int null = ::open("/dev/null", O_RDWR);
    ::dup2(null, 0);
    ::dup2(null, 1);
    if (!log) ::dup2(null, 2);
    ::dup3(theirs.get(), kLink, 0);
    if (theirs.get() == kLink) ::fcntl(kLink, F_SETFD, 0);
    ::close_range(kLink + 1, ~0U, 0);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::signal(SIGCHLD, SIG_DFL);
    ::execv("/proc/self/exe", const_cast<char* const*>(argv));
    ::_exit(127);
  }
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) continue;
  return CommonLink(std::move(ours));
}

Result<std::string> CommonLink::ask(const std::string& command, pid_t root,
                                    std::chrono::milliseconds limit) {
  const std::string what = "the keeper of shared memory (" + command + ")";
  // Later ones have higher numbers, whoever asks.
  const std::string number = std::to_string(Clock::now().time_since_epoch().count());
  const std::string words = number + " " + command + " " + std::to_string(root);
  if (::send(socket_.get(), words.data(), words.size(), MSG_NOSIGNAL) < 0)
    return system_error("asking " + what);
  const auto deadline = Clock::now() + limit;
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    pollfd readable{socket_.get(), POLLIN, 0};
    if (left.count() <= 0)
      return make_error(ErrorCode::kTimedOut, what + " does not answer in time");
    if (::poll(&readable, 1, static_cast<int>(left.count())) <= 0) continue;
    std::string reply(kMostReply, '\0');
    const ssize_t got = ::recv(socket_.get(), reply.data(), reply.size(), 0);
    if (got <= 0) return make_error(ErrorCode::kUnavailable, what + " has ended");
    reply.resize(static_cast<std::size_t>(got));
    if (!reply.starts_with(number) || reply.size() <= number.size())
      continue;  // to one that gave up
    const std::string text = reply.substr(number.size() + 1);
    if (reply[number.size()] == kKeeperDone) return text;
    return make_error(ErrorCode::kUnavailable, text);
  }
}

Status CommonLink::prepare(pid_t root) {
  const auto done = ask("prepare", root, kPrepare);
  return done ? Status() : Status(done.error());
}

Result<CommonLink::Shared> CommonLink::share(pid_t root) {
  const auto done = ask("share", root, kShare);
  if (!done) return done.error();
  Shared shared;
  std::istringstream(*done) >> shared.places >> shared.bytes >> shared.stopped_ms;
  return shared;
}

Result<std::uint64_t> CommonLink::join(pid_t root) {
  const auto done = ask("join", root, kShare);
  if (!done) return done.error();
  return std::strtoull(done->c_str(), nullptr, 10);
}

}  // namespace gob::migration
