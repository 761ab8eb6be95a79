#include "gobbench/process.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

extern "C" char** environ;

namespace gob::bench {
namespace {

void set_affinity(const std::vector<unsigned>& cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const unsigned cpu : cpus) CPU_SET(cpu, &set);
  // A core that went away leaves the thread where it is: slower, not wrong.
  (void)::sched_setaffinity(0, sizeof(set), &set);
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> out;
  for (std::string& s : strings) out.push_back(s.data());
  out.push_back(nullptr);
  return out;
}

// This program's variables but those that are added anew, then the added ones.
std::vector<std::string> with_environment(const std::vector<std::string>& added) {
  const auto name_of = [](const std::string& entry) { return entry.substr(0, entry.find('=')); };
  std::vector<std::string> all;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string own(*entry);
    const bool replaced = std::any_of(added.begin(), added.end(), [&](const std::string& other) {
      return name_of(other) == name_of(own);
    });
    if (!replaced) all.push_back(own);
  }
  all.insert(all.end(), added.begin(), added.end());
  return all;
}

// Between fork and exec: only calls that are safe there.
[[noreturn]] void become(const SpawnOptions& options, char* const* argv, char* const* envp,
                         const cpu_set_t* cpus, pid_t parent, int null_fd, int failure_fd) {
  const auto fail = [&] {
    const int error = errno;
    (void)!::write(failure_fd, &error, sizeof(error));
    ::_exit(127);
  };
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) fail();
  if (::getppid() != parent) ::_exit(127);
  if (options.netns_fd >= 0 && ::setns(options.netns_fd, CLONE_NEWNET) != 0) fail();
  if (cpus != nullptr) (void)::sched_setaffinity(0, sizeof(*cpus), cpus);
  if (::dup2(options.stdin_fd >= 0 ? options.stdin_fd : null_fd, 0) < 0) fail();
  if (options.stdout_fd >= 0 && ::dup2(options.stdout_fd, 1) < 0) fail();
  if (options.stderr_fd >= 0 && ::dup2(options.stderr_fd, 2) < 0) fail();
  ::execvpe(argv[0], argv, envp);
  fail();
  ::_exit(127);
}

}  // namespace

Result<Process> Process::spawn(const SpawnOptions& options) {
  std::vector<std::string> arguments = options.argv;
  std::vector<std::string> environment = with_environment(options.environment);
  const std::vector<char*> argv = pointers(arguments);
  const std::vector<char*> envp = pointers(environment);
  const std::string& name = arguments.front();
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  if (options.cpu) CPU_SET(*options.cpu, &cpus);

  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return system_error("cannot make a pipe for " + name);
  const UniqueFd failure_read(ends[0]);
  UniqueFd failure_write(ends[1]);
  const UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!null) return system_error("cannot open /dev/null");

  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return system_error("cannot fork to run " + name);
  if (pid == 0)
    become(options, argv.data(), envp.data(), options.cpu ? &cpus : nullptr, parent, null.get(),
           failure_write.get());
  failure_write.reset();
  UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  Process process(pid, std::move(pidfd), name);
  int error = 0;
  if (::read(failure_read.get(), &error, sizeof(error)) == sizeof(error))
    return make_error(error == ENOENT ? ErrorCode::kNotFound : ErrorCode::kSystem,
                      "cannot run " + name, error);
  if (!process.pidfd_) return system_error("cannot watch " + name + " by a pidfd");
  return process;
}

Process::Process(Process&& other) noexcept { *this = std::move(other); }

Process& Process::operator=(Process&& other) noexcept {
  if (this == &other) return *this;
  kill();
  pid_ = std::exchange(other.pid_, -1);
  pidfd_ = std::move(other.pidfd_);
  name_ = std::move(other.name_);
  status_ = std::exchange(other.status_, std::nullopt);
  return *this;
}

bool Process::reap(int options) {
  if (status_ || pid_ < 0) return true;
  int status = 0;
  pid_t got = 0;
  do got = ::waitpid(pid_, &status, options);
  while (got < 0 && errno == EINTR);
  if (got == pid_) status_ = status;
  return status_.has_value();
}

std::string Process::ending() {
  if (!reap(WNOHANG) || !status_) return "";
  if (WIFSIGNALED(*status_))
    return "was killed by SIG" + std::string(::sigabbrev_np(WTERMSIG(*status_)));
  return WEXITSTATUS(*status_) == 0 ? "" : "exited with " + std::to_string(WEXITSTATUS(*status_));
}

Status Process::wait(std::chrono::milliseconds timeout) {
  pollfd ended{pidfd_.get(), POLLIN, 0};
  int ready = 0;
  do ready = ::poll(&ended, 1, static_cast<int>(timeout.count()));
  while (ready < 0 && errno == EINTR);
  if (ready == 0)
    return make_error(ErrorCode::kTimedOut,
                      name_ + " did not end within " + std::to_string(timeout.count()) + " ms");
  const std::string how = ending();
  if (!how.empty()) return make_error(ErrorCode::kSystem, name_ + " " + how);
  return {};
}

void Process::kill() {
  if (pid_ < 0) return;
  if (!reap(WNOHANG)) {
    ::kill(pid_, SIGKILL);  // still ours: it has not been reaped
    reap(0);
  }
  pid_ = -1;
}

Result<std::string> output_of(SpawnOptions options) {
  const UniqueFd out(::memfd_create("gobbench-output", MFD_CLOEXEC));
  if (!out)
    return system_error("cannot make a file in memory for the output of " + options.argv[0]);
  options.stdout_fd = out.get();
  options.stderr_fd = out.get();
  Result<Process> process = Process::spawn(options);
  if (!process) return process.error();
  const Status ended = process->wait(std::chrono::minutes(1));
  struct stat file {};
  if (::fstat(out.get(), &file) != 0) return system_error("cannot read what a command printed");
  std::string text(static_cast<std::size_t>(file.st_size), '\0');
  const ssize_t got = ::pread(out.get(), text.data(), text.size(), 0);
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  if (ended) return text;
  std::string command;
  for (const std::string& word : options.argv) command += (command.empty() ? "" : " ") + word;
  return make_error(ended.error().code, "'" + command + "' failed: " + ended.error().message() +
                                            "; it printed: " + text);
}

std::vector<unsigned> usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<unsigned> cpus;
  if (::sched_getaffinity(0, sizeof(set), &set) == 0)
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu)
      if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  return cpus;
}

PinnedThread::PinnedThread(std::optional<unsigned> cpu) {
  if (!cpu) return;
  before_ = usable_cpus();
  set_affinity({*cpu});
}

PinnedThread::~PinnedThread() {
  if (before_) set_affinity(*before_);
}

}  // namespace gob::bench
