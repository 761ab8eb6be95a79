#include "gobctl/process.h"

extern "C" {  // which the header of glibc 2.36 leaves out
#include <sys/pidfd.h>
}

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <sstream>

namespace gob::ctl {
namespace {

using Clock = std::chrono::steady_clock;

// What tells a process from an earlier or later one of the same number: when it started, in clock
// ticks since boot. Nothing if it is gone, also if only its exit status is left.
std::optional<std::string> start_time(pid_t pid) {
  const auto stat = read_file("/proc/" + std::to_string(pid) + "/stat");
  if (!stat) return std::nullopt;
  // "pid (name) state ppid ...": the name may hold anything, so count from its end.
  const std::size_t name_end = stat->rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(stat->substr(name_end + 1));
  constexpr int kStartTime = 22;
  std::string field;
  for (int number = 3; number <= kStartTime; ++number) {
    if (!(fields >> field)) return std::nullopt;
    if (number == 3 && (field == "Z" || field == "X")) return std::nullopt;
  }
  return field;
}

std::string executable(pid_t pid) {
  std::error_code error;
  std::string path =
      std::filesystem::read_symlink("/proc/" + std::to_string(pid) + "/exe", error).string();
  // A rebuilt program is still the one that was started.
  constexpr std::string_view kDeleted = " (deleted)";
  if (path.ends_with(kDeleted)) path.resize(path.size() - kDeleted.size());
  return error ? "" : path;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> out;
  for (std::string& text : strings) out.push_back(text.data());
  out.push_back(nullptr);
  return out;
}

// What the child reports when it could not become the program.
struct Failure {
  enum Step : int { kNamespace, kLog, kExec } step;
  int error;
};

[[noreturn]] void fail_child(int report, Failure::Step step) {
  const Failure failure{step, errno};
  (void)!::write(report, &failure, sizeof failure);
  ::_exit(127);
}

// Between fork and exec: system calls only.
[[noreturn]] void become(char* const* argv, char* const* environment, const char* log,
                         int network_namespace, int report) {
  ::setsid();
  for (int number = 1; number < NSIG; ++number) ::signal(number, SIG_DFL);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  if (network_namespace >= 0 && ::setns(network_namespace, CLONE_NEWNET) != 0)
    fail_child(report, Failure::kNamespace);
  const int input = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  const int output = ::open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (input < 0 || output < 0 || ::dup2(input, STDIN_FILENO) < 0 ||
      ::dup2(output, STDOUT_FILENO) < 0 || ::dup2(output, STDERR_FILENO) < 0)
    fail_child(report, Failure::kLog);
  ::execve(argv[0], argv, environment);
  fail_child(report, Failure::kExec);
}

}  // namespace

Status Process::signal(int number) const {
  if (::pidfd_send_signal(pidfd_.get(), number, nullptr, 0) != 0 && errno != ESRCH)
    return system_error("signalling process " + std::to_string(pid_));
  return {};
}

std::string Process::end_in_words() const {
  siginfo_t info{};
  if (::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG) != 0 ||
      info.si_pid == 0)
    return "ended";
  if (info.si_code == CLD_EXITED) return "ended with status " + std::to_string(info.si_status);
  return "was killed by signal " + std::to_string(info.si_status) + " (" +
         ::strsignal(info.si_status) + ")";
}

Result<Process> start_daemon(const Command& command) {
  UniqueFd network_namespace;
  if (!command.network_namespace.empty()) {
    const std::string path = "/run/netns/" + command.network_namespace;
    network_namespace.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!network_namespace) return system_error("opening the network namespace " + path);
  }
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) return system_error("creating a pipe");
  const UniqueFd report(ends[0]);
  UniqueFd child_report(ends[1]);

  std::vector<std::string> argv = command.argv;
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) environment.emplace_back(*entry);
  for (const std::string& entry : command.environment) {
    const std::string name = entry.substr(0, entry.find('=') + 1);
    std::erase_if(environment, [&](const std::string& other) { return other.starts_with(name); });
    environment.push_back(entry);
  }
  const auto argv_pointers = pointers(argv);
  const auto environment_pointers = pointers(environment);

  const pid_t pid = ::fork();
  if (pid < 0) return system_error("starting " + command.argv[0]);
  if (pid == 0)
    become(argv_pointers.data(), environment_pointers.data(), command.log.c_str(),
           network_namespace.get(), child_report.get());
  child_report.reset();
  UniqueFd pidfd(::pidfd_open(pid, 0));
  const int pidfd_error = errno;

  Failure failure{};
  if (::read(report.get(), &failure, sizeof failure) == sizeof failure) {
    ::waitpid(pid, nullptr, 0);
    switch (failure.step) {
      case Failure::kNamespace:
        return make_error(ErrorCode::kSystem,
                          "entering the network namespace " + command.network_namespace,
                          failure.error);
      case Failure::kLog:
        return make_error(ErrorCode::kSystem, "opening the log " + command.log, failure.error);
      case Failure::kExec:
        return make_error(ErrorCode::kSystem, "executing " + command.argv[0], failure.error);
    }
  }
  if (!pidfd) {
    ::kill(pid, SIGKILL);  // still our child, so the number is its own
    ::waitpid(pid, nullptr, 0);
    return make_error(ErrorCode::kSystem, "watching the process of " + command.argv[0],
                      pidfd_error);
  }
  return Process(pid, std::move(pidfd));
}

Status record_process(const NodeDir& node, const Process& process) {
  const auto started = start_time(process.pid());
  if (!started) return {};  // it has ended already, which its watcher will see
  if (Status written =
          write_file(node.identity(), *started + "\n" + executable(process.pid()) + "\n");
      !written)
    return written;
  return write_file(node.pid(), std::to_string(process.pid()) + "\n");
}

Result<std::optional<Process>> find_process(const NodeDir& node) {
  const auto pid_text = read_file(node.pid());
  const auto identity = read_file(node.identity());
  if (!pid_text || !identity) return std::optional<Process>();
  const pid_t pid = static_cast<pid_t>(std::strtol(pid_text->c_str(), nullptr, 10));
  if (pid <= 1)
    return make_error(ErrorCode::kInvalidArgument, node.pid() + " does not hold a process number");
  UniqueFd pidfd(::pidfd_open(pid, 0));
  if (!pidfd) {
    if (errno == ESRCH) return std::optional<Process>();
    return system_error("looking for process " + std::to_string(pid));
  }
  // Looked at while the pidfd is held: what matches now is what the pidfd stands for.
  const auto started = start_time(pid);
  if (!started || *identity != *started + "\n" + executable(pid) + "\n")
    return std::optional<Process>();
  return std::optional<Process>(Process(pid, std::move(pidfd)));
}

bool wait_for_end(const std::vector<const Process*>& processes, std::chrono::milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  for (const Process* process : processes) {
    pollfd ended{process->fd(), POLLIN, 0};
    while (true) {
      const auto left =
          std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
      const int ready = ::poll(&ended, 1, static_cast<int>(std::max<std::int64_t>(left, 0)));
      if (ready > 0) break;
      if (ready == 0 || errno != EINTR) return false;
    }
  }
  return true;
}

}  // namespace gob::ctl
