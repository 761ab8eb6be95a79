#include "libgob/migration/warden_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "libgob/migration/session.h"
#include "libgob/migration/warden.h"

namespace gob::migration {
namespace {

// Parted by zeros.
std::vector<std::string> words_of(const std::string& bytes) {
  std::vector<std::string> words;
  for (std::size_t at = 0; at <= bytes.size();) {
    const std::size_t end = std::min(bytes.find('\0', at), bytes.size());
    words.push_back(bytes.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

}  // namespace

void WardenProcess::set_up() {
  ::prctl(PR_SET_NAME, "gobmigrate-wdn");
  ::setsid();
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  ::sigprocmask(SIG_SETMASK, &set, nullptr);
  children_.reset(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!children_ || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      ::mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0)
    ::_exit(1);
}

void WardenProcess::run() {
  set_up();
  while (true) {
    pollfd waiting[2] = {{socket_.get(), POLLIN, 0}, {children_.get(), POLLIN, 0}};
    if (::poll(waiting, 2, -1) < 0 && errno != EINTR) ::_exit(1);
    if (socket_ && waiting[0].revents != 0 && !hear()) {
      if (!done_) end_migrant();
      clean_up();
      socket_.reset();
    }
    reap();
  }
}

bool WardenProcess::hear() {
  static char bytes[kMaxWardenMessage];
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  iovec part{bytes, sizeof bytes};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t got = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return true;
  if (got <= 0) return false;
  if ((message.msg_flags & MSG_CTRUNC) != 0) {
    // Without the userfaultfd nobody would keep the process from reading zeros.
    spdlog::error("process 1 of a migrant has no file descriptor left: the migrant is ended");
    return false;
  }
  switch (bytes[0]) {
    case 'V': {
      const Status viewed = view(words_of({bytes + 1, static_cast<std::size_t>(got - 1)}));
      tell('v', 0, viewed ? "" : viewed.error().message());
      break;
    }
    case 'H': {
      const Status held = hold_addresses(words_of({bytes + 1, static_cast<std::size_t>(got - 1)}));
      tell('n', 0, held ? "" : held.error().message());
      break;
    }
    case 'T': {
      const Status added = add_addresses();
      tell('n', 0, added ? "" : added.error().message());
      break;
    }
    case 'R':
      start_criu(words_of({bytes + 1, static_cast<std::size_t>(got - 1)}));
      break;
    case 'U':
    case 'P':
    case 'C':
      if (const cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
        if (bytes[0] == 'C')
          take_terminal(UniqueFd(fd));
        else if (done_ && bytes[0] == 'U')
          // Of a child that was forked when the last page came. Nobody reads its events any more,
          // for which its own forks would wait.
          ::close(fd);
        else
          (bytes[0] == 'U' ? uffds_ : streams_).emplace_back(fd);
      }
      break;
    case 'S':
      sessions_.emplace_back(bytes + 1, static_cast<std::size_t>(got - 1));
      break;
    case 'G':
      open_network();
      streams_.clear();
      // Keys that are signals are for the migrant's group.
      if (terminal_) bring_forward(::getpgid(root_));
      terminal_.reset();
      ::kill(-1, SIGCONT);
      break;
    case 'K':
      ::kill(-1,
             static_cast<int>(std::strtol(
                 std::string(bytes + 1, static_cast<std::size_t>(got - 1)).c_str(), nullptr, 10)));
      break;
    case 'A':
      attached_.emplace_back(bytes + 1, static_cast<std::size_t>(got - 1));
      break;
    case 'M':
      attached_.clear();
      sessions_.clear();
      [[fallthrough]];
    case 'D':
      done_ = true;
      uffds_.clear();
      break;
    case 'N':
      sessions_.clear();
      break;
    default:
      return false;
  }
  return true;
}

// CRIU and the migrant inherit it. Signals of its keys do nothing to process 1.
void WardenProcess::take_terminal(UniqueFd terminal) {
  if (::ioctl(terminal.get(), TIOCSCTTY, 0) == 0) terminal_ = std::move(terminal);
}

// Also from the background.
void WardenProcess::bring_forward(pid_t group) {
  ::signal(SIGTTOU, SIG_IGN);
  ::tcsetpgrp(terminal_.get(), group);
  ::signal(SIGTTOU, SIG_DFL);
}

// The migrant's number, then CRIU and its arguments.
void WardenProcess::start_criu(std::vector<std::string> words) {
  root_ = static_cast<pid_t>(std::strtol(words[0].c_str(), nullptr, 10));
  std::vector<char*> arguments;
  for (std::size_t i = 1; i < words.size(); ++i) arguments.push_back(words[i].data());
  arguments.push_back(nullptr);
  // CRIU's own numbers must not be those the migrant had.
  int highest = 32'768;
  std::ifstream("/proc/sys/kernel/pid_max") >> highest;
  std::ofstream("/proc/sys/kernel/ns_last_pid") << (root_ > highest / 2 ? 300 : highest - 300);
  criu_ = ::fork();
  if (criu_ != 0) return;
  // A migrant whose group stays gets CRIU's, which must have another number than the session.
  ::setpgid(0, 0);
  if (terminal_) bring_forward(::getpid());
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  const int null = ::open("/dev/null", O_RDWR);
  for (int fd = 0; fd < 3; ++fd) ::dup2(null, fd);
  // First out of the way of each other.
  constexpr int kElsewhere = 100;
  const auto streams = static_cast<int>(streams_.size());
  for (int i = 0; i < streams; ++i)
    ::dup3(streams_[static_cast<std::size_t>(i)].get(), kElsewhere + i, 0);
  for (int i = 0; i < streams; ++i) ::dup2(kElsewhere + i, kFirstStream + i);
  ::close_range(static_cast<unsigned>(kFirstStream + streams), ~0U, 0);
  if (::chdir(folder_.c_str()) != 0) ::_exit(126);
  ::execvp(arguments[0], arguments.data());
  ::_exit(127);
}

void WardenProcess::reap() {
  signalfd_siginfo ignored;
  while (::read(children_.get(), &ignored, sizeof ignored) > 0) continue;
  while (true) {
    int status = 0;
    const pid_t pid = ::waitpid(-1, &status, WNOHANG);
    if (pid == 0) return;
    if (pid < 0) break;  // no child is left
    if (pid == root_) root_status_ = status;
    if (pid == criu_) {
      restored_ = WIFEXITED(status) && WEXITSTATUS(status) == 0;
      tell('r', WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
      criu_ = -1;
    }
  }
  if (!restored_) return;
  tell('e', root_status_);
  detach();
  ::_exit(0);
}

void WardenProcess::tell(char what, int status, const std::string& text) {
  std::string bytes(5, what);
  std::memcpy(bytes.data() + 1, &status, sizeof status);
  bytes += text.substr(0, 4000);
  if (socket_ && ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) < 0) return;
}

// The userfaultfds stay open until nobody is left who could read zeros.
void WardenProcess::end_migrant() {
  do {
    ::kill(-1, SIGKILL);
  } while (::waitpid(-1, nullptr, 0) > 0 || errno == EINTR);
  clean_up();
  detach();
  ::_exit(1);
}

void WardenProcess::clean_up() {
  leave_network();
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
  for (const std::string& session : std::exchange(sessions_, {}))
    static_cast<void>(remove_session(gobd_, session));
}

void WardenProcess::detach() {
  for (const std::string& name : attached_) static_cast<void>(remove_session(gobd_, name));
}

}  // namespace gob::migration
