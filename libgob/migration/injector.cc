#include "libgob/migration/injector.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <thread>

#include "libgob/base/unique_fd.h"
#include "libgob/migration/proc.h"

namespace gob::migration {
namespace {

namespace fs = std::filesystem;

constexpr unsigned long kSuspendSeccomp = 1UL << 21;  // PTRACE_O_SUSPEND_SECCOMP
constexpr auto kGetSigmask = static_cast<__ptrace_request>(0x420a);
constexpr auto kSetSigmask = static_cast<__ptrace_request>(0x420b);
constexpr int kSyscallStop = SIGTRAP | 0x80;
constexpr std::uint64_t kUserCode64 = 0x33;      // %cs of 64-bit programs
constexpr std::chrono::microseconds kLook{100};  // wait(2) has no limit of its own
constexpr int kLooks = 64;                       // between two at the thread itself
constexpr std::chrono::seconds kCall{5};
constexpr std::size_t kMostCode = std::size_t{4} << 20;  // of one area

// Its letter in proc(5); 0: it has ended.
char state_of(pid_t pid, pid_t thread) {
  std::string line;
  std::getline(std::ifstream(proc(pid, "task/" + std::to_string(thread) + "/stat")), line);
  const std::size_t at = line.rfind(") ");
  return at == std::string::npos ? '\0' : line[at + 2];
}

bool is_event_stop(int status) { return (status >> 16) == PTRACE_EVENT_STOP; }

void* word(std::uint64_t value) { return reinterpret_cast<void*>(value); }

}  // namespace

Injector::Injector(Injector&& other) noexcept
    : pid_(other.pid_),
      threads_(std::exchange(other.threads_, {})),
      withheld_(std::exchange(other.withheld_, {})),
      caller_(other.caller_),
      begun_(std::exchange(other.begun_, false)),
      before_(other.before_),
      mask_(other.mask_),
      gate_(other.gate_) {}

Injector::~Injector() {
  if (begun_) give_back();
  let_go();
}

Result<Injector> Injector::stop(pid_t pid, std::chrono::milliseconds limit) {
  Injector stopped(pid);
  if (Status seized = stopped.seize_all(Clock::now() + limit); !seized) return seized.error();
  if (stopped.threads_.empty())
    return make_error(ErrorCode::kLost, "process " + std::to_string(pid) + " has ended", ESRCH);
  return stopped;
}

// A thread may start others until all stand.
Status Injector::seize_all(Clock::time_point deadline) {
  for (bool found = true; found;) {
    found = false;
    const std::size_t known = threads_.size();
    std::error_code error;
    for (fs::directory_iterator it(proc(pid_, "task"), error), end; !error && it != end;
         it.increment(error)) {
      const auto id = static_cast<pid_t>(std::atoi(it->path().filename().c_str()));
      if (std::ranges::find(threads_, id, &Thread::id) != threads_.end()) continue;
      const char state = state_of(pid_, id);
      if (state == '\0' || state == 'Z' || state == 'X') continue;
      if (::ptrace(PTRACE_SEIZE, id, nullptr, PTRACE_O_TRACESYSGOOD | kSuspendSeccomp) != 0 &&
          ::ptrace(PTRACE_SEIZE, id, nullptr, PTRACE_O_TRACESYSGOOD) != 0) {
        if (errno == ESRCH) continue;
        return system_error("stopping process " + std::to_string(pid_) +
                            " (does something trace it?)");
      }
      // One that stands reports that by itself; asked for it, it would stop a second time.
      threads_.push_back({id, state == 'T'});
      if (state != 'T') ::ptrace(PTRACE_INTERRUPT, id, nullptr, nullptr);
      found = true;
    }
    for (std::size_t i = known; i < threads_.size(); ++i)
      if (Status stands = halt(threads_[i], deadline); !stands) return stands;
  }
  // Of the first thread of a process the end is told when that of all others has been; nor does its
  // parent hear of it before.
  for (const Thread& thread : threads_)
    if (thread.gone) ::waitpid(thread.id, nullptr, __WALL | WNOHANG);
  std::erase_if(threads_, [](const Thread& thread) { return thread.gone; });
  return {};
}

Status Injector::halt(Thread& thread, Clock::time_point deadline) {
  while (true) {
    const auto status = await(thread, deadline);
    if (!status || thread.gone) return thread.gone ? Status() : Status(status.error());
    if (is_event_stop(*status)) return {};
    // A signal that was on its way: it is taken, and the stop comes before the program's next step.
    ::ptrace(PTRACE_CONT, thread.id, nullptr, word(static_cast<unsigned>(WSTOPSIG(*status))));
  }
}

Result<int> Injector::await(Thread& thread, Clock::time_point deadline) const {
  for (int looks = 1;; ++looks) {
    int status = 0;
    const pid_t got = ::waitpid(thread.id, &status, __WALL | WNOHANG);
    if (got == thread.id && WIFSTOPPED(status)) return status;
    // It may have ended before others that are to be waited for after it: that is told last.
    const char state = got == 0 && looks % kLooks == 0 ? state_of(pid_, thread.id) : 'S';
    if (got == thread.id || (got < 0 && errno == ECHILD) || state == '\0' || state == 'Z' ||
        state == 'X') {
      thread.gone = true;
      return make_error(ErrorCode::kLost, "process " + std::to_string(pid_) + " has ended", ESRCH);
    }
    if (Clock::now() > deadline)
      return make_error(ErrorCode::kTimedOut,
                        "thread " + std::to_string(thread.id) + " of process " +
                            std::to_string(pid_) +
                            " does not stop: it waits in the kernel, for a disk?");
    std::this_thread::sleep_for(kLook);
  }
}

std::vector<Injector::Waiting> Injector::waiting() const {
  std::vector<Waiting> all;
  for (std::size_t i = 0; i < threads_.size(); ++i) {
    user_regs_struct regs{};
    if (begun_ && i == caller_)
      regs = before_;
    else if (::ptrace(PTRACE_GETREGS, threads_[i].id, nullptr, &regs) != 0)
      continue;
    if (static_cast<std::int64_t>(regs.orig_rax) >= 0)
      all.push_back({threads_[i].id,
                     regs.orig_rax,
                     {regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9}});
  }
  return all;
}

Status Injector::begin() {
  // Rather one in a system call: one that was interrupted elsewhere may be in a restartable
  // sequence (rseq(2)), which the kernel would take for left.
  const std::vector<Waiting> in_calls = waiting();
  if (!in_calls.empty())
    caller_ = static_cast<std::size_t>(
        std::ranges::find(threads_, in_calls.front().thread, &Thread::id) - threads_.begin());
  const std::string who = "process " + std::to_string(pid_);
  const pid_t id = threads_[caller_].id;
  std::uint64_t all = ~std::uint64_t{0};
  if (::ptrace(PTRACE_GETREGS, id, nullptr, &before_) != 0 ||
      ::ptrace(kGetSigmask, id, word(sizeof mask_), &mask_) != 0)
    return system_error("reading the registers of " + who);
  if (before_.cs != kUserCode64)
    return make_error(ErrorCode::kUnsupported,
                      who + " is a 32-bit program: only 64-bit ones can be changed");
  if (Status found = find_gate(); !found) return found;
  if (::ptrace(kSetSigmask, id, word(sizeof all), &all) != 0)
    return system_error("blocking the signals of " + who);
  begun_ = true;
  return {};
}

// Any syscall instruction will do: the vDSO has some, and the C library.
Status Injector::find_gate() {
  std::ifstream maps(proc(pid_, "maps"));
  for (std::string line; std::getline(maps, line);) {
    std::uint64_t start = 0, end = 0;
    char rights[5] = {};
    if (std::sscanf(line.c_str(), "%lx-%lx %4s", &start, &end, rights) != 3 || rights[0] != 'r' ||
        rights[2] != 'x' || line.ends_with("[vsyscall]"))
      continue;
    std::string code(std::min<std::size_t>(end - start, kMostCode), '\0');
    if (!read(start, code.data(), code.size())) continue;
    if (const std::size_t at = code.find("\x0f\x05"); at != std::string::npos) {
      gate_ = start + at;
      return {};
    }
  }
  return make_error(ErrorCode::kUnsupported, "process " + std::to_string(pid_) +
                                                 " has no syscall instruction that could be found");
}

Result<std::uint64_t> Injector::call(const std::string& what, long number,
                                     const Arguments& arguments) {
  if (!begun_)
    if (Status begun = begin(); !begun) return begun.error();
  Thread& thread = threads_[caller_];
  user_regs_struct regs = before_;
  regs.rip = gate_;
  regs.rax = static_cast<std::uint64_t>(number);
  regs.orig_rax = ~std::uint64_t{0};  // it is in no call that the kernel would start again
  regs.rdi = arguments[0];
  regs.rsi = arguments[1];
  regs.rdx = arguments[2];
  regs.r10 = arguments[3];
  regs.r8 = arguments[4];
  regs.r9 = arguments[5];
  if (::ptrace(PTRACE_SETREGS, thread.id, nullptr, &regs) != 0)
    return system_error(what + ": setting registers of process " + std::to_string(pid_));
  const auto deadline = Clock::now() + kCall;
  for (int stops = 0; stops < 2;) {
    if (::ptrace(PTRACE_SYSCALL, thread.id, nullptr, nullptr) != 0)
      return system_error(what + ": letting process " + std::to_string(pid_) + " run");
    const auto status = await(thread, deadline);
    if (!status) return status.error();
    if (WSTOPSIG(*status) == kSyscallStop) {
      ++stops;
    } else if (!is_event_stop(*status)) {
      const int signal = WSTOPSIG(*status);
      if (signal != SIGSTOP)
        return make_error(ErrorCode::kSystem, what + ": process " + std::to_string(pid_) +
                                                  " met signal " + std::to_string(signal));
      withheld_.push_back(signal);
    }
  }
  if (::ptrace(PTRACE_GETREGS, thread.id, nullptr, &regs) != 0)
    return system_error(what + ": reading registers of process " + std::to_string(pid_));
  const auto result = static_cast<std::int64_t>(regs.rax);
  if (result < 0 && result > -4096)
    return make_error(ErrorCode::kSystem, what, static_cast<int>(-result));
  return regs.rax;
}

// It may stand at the end of a system call, where the kernel would take no interrupted one up
// again; where it takes signals, it does.
void Injector::give_back() {
  begun_ = false;
  Thread& thread = threads_[caller_];
  if (thread.gone) return;
  ::ptrace(PTRACE_INTERRUPT, thread.id, nullptr, nullptr);
  const auto deadline = Clock::now() + kCall;
  while (true) {
    if (::ptrace(PTRACE_CONT, thread.id, nullptr, nullptr) != 0) return;
    const auto status = await(thread, deadline);
    if (!status) return;
    if (is_event_stop(*status)) break;
    withheld_.push_back(WSTOPSIG(*status));
  }
  ::ptrace(PTRACE_SETREGS, thread.id, nullptr, &before_);
  ::ptrace(kSetSigmask, thread.id, word(sizeof mask_), &mask_);
}

void Injector::let_go() {
  // One that never stood cannot be let go of before it does; if it does not, this process's end
  // will.
  for (Thread& thread : threads_)
    if (!thread.gone && ::ptrace(PTRACE_DETACH, thread.id, nullptr, nullptr) != 0 &&
        await(thread, Clock::now() + kCall))
      ::ptrace(PTRACE_DETACH, thread.id, nullptr, nullptr);
  // The kernel stops those again a moment later that stood before, and CRIU, which takes what
  // stands for stopped, would wait for the second stop for ever.
  const auto deadline = Clock::now() + kCall;
  for (const Thread& thread : threads_)
    while (thread.stood && !thread.gone && Clock::now() < deadline) {
      const char state = state_of(pid_, thread.id);
      if (state == '\0' || state == 'T' || state == 'Z' || state == 'X') break;
      std::this_thread::sleep_for(kLook);
    }
  for (const int signal : withheld_) ::kill(pid_, signal);
}

Status Injector::read(std::uint64_t address, void* to, std::size_t bytes) const {
  const iovec local{to, bytes};
  const iovec remote{word(address), bytes};
  if (::process_vm_readv(pid_, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(bytes)) return {};
  return system_error("reading memory of process " + std::to_string(pid_));
}

Status Injector::write(std::uint64_t address, const void* from, std::size_t bytes) const {
  const iovec local{const_cast<void*>(from), bytes};
  const iovec remote{word(address), bytes};
  if (::process_vm_writev(pid_, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(bytes)) return {};
  return system_error("writing memory of process " + std::to_string(pid_));
}

}  // namespace gob::migration
