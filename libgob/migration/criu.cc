#include "libgob/migration/criu.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "libgob/migration/proc.h"

namespace gob::migration {
namespace {

// Returns in a process of the same namespaces as `pid`. The caller's process stays outside, hands
// its status on, and takes it along when it dies.
void go_beside(pid_t pid) {
  UniqueFd process = open_process(pid);
  if (!process || ::setns(process.get(), CLONE_NEWPID | CLONE_NEWNS) != 0) ::_exit(125);
  process.reset();
  const pid_t inner = ::fork();
  if (inner < 0) ::_exit(125);
  if (inner == 0) {
    // The parent is in no namespace that this process sees: its end shows as a signal only.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    return;
  }
  int status = 0;
  while (::waitpid(inner, &status, 0) < 0 && errno == EINTR) continue;
  ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

std::string kernel() {
  utsname name{};
  return ::uname(&name) == 0 ? name.release : "";
}

// The status, and what it says, up to 64 KiB.
Result<int> run(const std::vector<std::string>& argv, std::chrono::seconds limit,
                std::string& text) {
  UniqueFd output(::memfd_create("criu", MFD_CLOEXEC));
  if (!output) return system_error("making a file in memory");
  auto child = Child::start(argv, {}, output.get());
  if (!child) return child.error();
  const auto status = child->wait(limit);
  if (!status) return status.error();
  text.resize(std::size_t{64} << 10);
  const ssize_t got = ::pread(output.get(), text.data(), text.size(), 0);
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  return status;
}

}  // namespace

Result<Child> Child::start(const std::vector<std::string>& argv, const std::vector<int>& keep,
                           int log, pid_t beside, const std::vector<std::string>& environment) {
  std::vector<char*> arguments;
  for (const std::string& each : argv) arguments.push_back(const_cast<char*>(each.c_str()));
  arguments.push_back(nullptr);
  std::vector<char*> variables;
  for (char** each = environ; *each != nullptr; ++each) {
    const std::string_view name(*each, std::string_view(*each).find('=') + 1);
    if (std::ranges::none_of(environment,
                             [&](const auto& other) { return other.starts_with(name); }))
      variables.push_back(*each);
  }
  for (const std::string& each : environment) variables.push_back(const_cast<char*>(each.c_str()));
  variables.push_back(nullptr);
  std::vector<int> sorted(keep);
  std::ranges::sort(sorted);
  const pid_t pid = ::fork();
  if (pid < 0) return system_error("starting " + argv[0]);
  if (pid == 0) {
    const int null = ::open("/dev/null", O_RDWR);
    ::dup2(null, 0);
    ::dup2(log >= 0 ? log : null, 1);
    ::dup2(log >= 0 ? log : null, 2);
    unsigned from = 3;
    for (const int fd : sorted) {
      if (static_cast<unsigned>(fd) > from) ::close_range(from, static_cast<unsigned>(fd) - 1, 0);
      ::fcntl(fd, F_SETFD, 0);
      from = static_cast<unsigned>(fd) + 1;
    }
    ::close_range(from, ~0U, 0);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    if (beside != 0) go_beside(beside);
    ::execvpe(arguments[0], arguments.data(), variables.data());
    ::_exit(127);
  }
  UniqueFd pidfd = open_process(pid);
  if (!pidfd) {
    const Error error = system_error("watching " + argv[0]);
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    return error;
  }
  return Child(pid, std::move(pidfd));
}

Child::~Child() {
  if (!pidfd_) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

Result<int> Child::wait(std::chrono::milliseconds limit) {
  pollfd ended{pidfd_.get(), POLLIN, 0};
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (true) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    const int ready = ::poll(&ended, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
    if (ready > 0) break;
    if (ready < 0 && errno == EINTR) continue;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pidfd_.reset();
    return make_error(
        ErrorCode::kTimedOut,
        "CRIU did not end within " + std::to_string(limit.count()) + " ms and was killed");
  }
  int status = 0;
  ::waitpid(pid_, &status, 0);
  pidfd_.reset();
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

Result<std::string> probe_criu(const std::string& program) {
  std::string text;
  const auto status = run({program, "--version"}, std::chrono::seconds(10), text);
  if (!status) return status.error();
  int major = 0;
  int minor = 0;
  const std::size_t at = text.find("Version: ");
  if (*status != 0 || at == std::string::npos ||
      std::sscanf(text.c_str() + at, "Version: %d.%d", &major, &minor) != 2)
    return make_error(ErrorCode::kUnsupported,
                      "\"" + program + " --version\" does not answer like CRIU (status " +
                          std::to_string(*status) +
                          "); install the package criu, or name the program with --criu");
  std::string version = text.substr(at + 9, text.find_first_of(" \n", at + 9) - at - 9);
  if (major < 3 || (major == 3 && minor < 17))
    return make_error(ErrorCode::kUnsupported,
                      "CRIU " + version + " is too old; 3.17 or later is needed");
  return version;
}

Status try_criu(const std::string& program, const std::string& version) {
  // Without it the kernel has no answer for CRIU at all.
  unsigned bytes = 0;
  if (::prctl(PR_SET_MM, PR_SET_MM_MAP_SIZE, &bytes, 0, 0) != 0 && errno == EINVAL)
    return make_error(ErrorCode::kUnsupported, "this kernel (Linux " + kernel() +
                                                   ") was built without CONFIG_CHECKPOINT_RESTORE, "
                                                   "which CRIU needs");
  std::string text;
  // It tries the kernel out, which takes an emulated machine many seconds.
  const auto status =
      run({program, "check", "--feature", "userns"}, std::chrono::seconds(60), text);
  if (!status) return status.error();
  // Whatever else it says is no obstacle: another feature than what is used may be missing.
  const std::string remedy = remedy_for(text);
  if (remedy.empty()) return {};
  return make_error(ErrorCode::kUnsupported,
                    "CRIU " + version + " (\"" + program + "\") does not work here: " + remedy);
}

std::string remedy_for(const std::string& log_text) {
  if (log_text.find("Could not initialize kernel features detection") == std::string::npos)
    return "";
  return "it does not know this kernel, Linux " + kernel() +
         "; install a later one (from Linux 6.13 on 4.2 is needed), or name it with --criu";
}

std::uint64_t length_of_log(const std::string& path) {
  std::error_code none;
  const std::uintmax_t bytes = std::filesystem::file_size(path, none);
  return none ? 0 : bytes;
}

std::string errors_of_log(const std::string& path, std::uint64_t from) {
  std::ifstream log(path);
  log.seekg(static_cast<std::streamoff>(from));
  std::string found;
  std::string remedy;
  int lines = 0;
  for (std::string line; std::getline(log, line);) {
    if (remedy.empty()) remedy = remedy_for(line);
    const std::size_t at = line.find("Error (");
    if (at == std::string::npos || ++lines > 4) continue;
    found += (found.empty() ? "" : "; ") + line.substr(at);
  }
  if (found.empty() && from != 0) return errors_of_log(path);
  if (found.empty()) return "its log has no error";
  return remedy.empty() ? found : remedy + ": " + found;
}

}  // namespace gob::migration
