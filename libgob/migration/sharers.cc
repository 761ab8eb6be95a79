#include "libgob/migration/sharers.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <thread>

#include "libgob/base/unique_fd.h"
#include "libgob/client/move_door.h"
#include "libgob/migration/inspect.h"
#include "libgob/migration/proc.h"

namespace gob::migration {
namespace {

namespace fs = std::filesystem;
using client::MoveAsk;
using client::MoveLetter;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kRunning{10};  // more than a guardian waits for its program's threads
constexpr std::chrono::seconds kStanding{15};
constexpr std::chrono::milliseconds kLook{10};
constexpr std::chrono::milliseconds kLookForStop{1};
constexpr std::chrono::seconds kStops{5};  // or somebody has continued the process

// The doors of a process's connections, by their numbers there.
std::vector<int> doors(pid_t pid) {
  static const std::string kFile = std::string("/memfd:") + client::kSessionFile;
  std::vector<int> all;
  std::error_code error;
  for (fs::directory_iterator it(proc(pid, "fd"), error), end; !error && it != end;
       it.increment(error)) {
    std::error_code ignored;
    const std::string link = fs::read_symlink(it->path(), ignored).string();
    if (link.starts_with(kFile)) all.push_back(std::atoi(link.c_str() + kFile.size()));
  }
  return all;
}

// Its threads that act for connections run, though the process is stopped, as long as one has this.
class Guardians {
 public:
  static Result<Guardians> wake(pid_t pid) {
    Guardians awake;
    std::error_code error;
    for (fs::directory_iterator it(proc(pid, "task"), error), end; !error && it != end;
         it.increment(error)) {
      std::string name;
      std::getline(std::ifstream(it->path() / "comm"), name);
      if (name != client::kGuardianName) continue;
      const auto thread = static_cast<pid_t>(std::atoi(it->path().filename().c_str()));
      if (::ptrace(PTRACE_SEIZE, thread, nullptr, nullptr) != 0)
        return system_error("waking the thread of process " + std::to_string(pid) +
                            " that speaks to gobd");
      awake.threads_.push_back(thread);
      // One that stands reports that by itself; asked for it, it would stop a second time.
      if (!(stands(proc(thread, "stat")) ? await_stop(thread) : stop(thread)) ||
          ::ptrace(PTRACE_CONT, thread, nullptr, nullptr) != 0)
        return system_error("letting the thread of process " + std::to_string(pid) +
                            " run that speaks to gobd");
    }
    return awake;
  }
  Guardians(Guardians&& other) noexcept : threads_(std::exchange(other.threads_, {})) {}
  Guardians(const Guardians&) = delete;
  Guardians& operator=(const Guardians&) = delete;
  // A stop that was on its way when they were woken reaches them afterwards; only wait(2) tells.
  void keep_running() const {
    for (const pid_t thread : threads_)
      if (int status = 0; ::waitpid(thread, &status, __WALL | WNOHANG) == thread && WIFSTOPPED(status))
        ::ptrace(PTRACE_CONT, thread, nullptr, nullptr);
  }
  // They stand as the others do when this returns. The kernel stops a thread that is let go of a moment
  // later, and CRIU, which takes what stands for stopped twice, would wait for the second stop for ever.
  ~Guardians() {
    for (const pid_t thread : threads_)
      if (stop(thread)) ::ptrace(PTRACE_DETACH, thread, nullptr, nullptr);
    const auto deadline = Clock::now() + kStops;
    for (const pid_t thread : threads_)
      while (!stands(proc(thread, "stat")) && Clock::now() < deadline)
        std::this_thread::sleep_for(kLookForStop);
  }

 private:
  Guardians() = default;
  static bool stands(const std::string& stat) {
    std::string line;
    std::getline(std::ifstream(stat), line);
    if (line.empty()) return true;  // it has ended
    const std::size_t at = line.rfind(") ");
    return at != std::string::npos && line[at + 2] == 'T';
  }
  // It waits in poll(2) or for gobd, so that it stops at once.
  static bool stop(pid_t thread) {
    ::ptrace(PTRACE_INTERRUPT, thread, nullptr, nullptr);
    return await_stop(thread);
  }
  static bool await_stop(pid_t thread) {
    int status = 0;
    pid_t got = 0;
    while ((got = ::waitpid(thread, &status, __WALL)) < 0 && errno == EINTR) continue;
    return got == thread && WIFSTOPPED(status);
  }
  std::vector<pid_t> threads_;
};

Result<std::string> ask(pid_t pid, int door, MoveAsk what, std::chrono::milliseconds limit,
                        const std::string& socket = {}, const Guardians* awake = nullptr) {
  const std::string who = "the connection of process " + std::to_string(pid) + " to gobd";
  const UniqueFd end = copy_descriptor(pid, door);
  if (!end) return system_error("reaching " + who);
  MoveLetter letter;
  letter.what = static_cast<char>(what);
  // Later ones have higher numbers, whoever asks.
  letter.number = static_cast<std::uint64_t>(Clock::now().time_since_epoch().count());
  if (!socket.empty()) {
    letter.fd.reset(::open(socket.c_str(), O_PATH | O_CLOEXEC));
    if (!letter.fd) return system_error("opening " + socket);
  }
  if (Status sent = client::send_letter(end.get(), letter, /*wait=*/false); !sent)
    return sent.error();
  const auto deadline = Clock::now() + limit;
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    pollfd readable{end.get(), POLLIN, 0};
    const auto step = awake == nullptr ? left : std::min(left, kLook);
    if (left.count() > 0 && ::poll(&readable, 1, static_cast<int>(step.count())) == 0) {
      if (awake != nullptr) awake->keep_running();
      continue;
    }
    if (left.count() <= 0)
      return make_error(ErrorCode::kTimedOut, who + " does not answer in time");
    const auto reply = client::receive_letter(end.get());
    if (!reply || reply->number != letter.number) continue;  // the answer to one that gave up
    if (reply->what == client::kDone) return reply->text;
    return make_error(ErrorCode::kUnavailable, who + ": " + reply->text);
  }
}

// Asks each connection of the tree, whose guardians run meanwhile.
Status ask_all(pid_t root, const std::vector<MoveAsk>& what, const std::string& socket) {
  for (const pid_t pid : tree_of(root)) {
    const std::vector<int> all = doors(pid);
    if (all.empty()) continue;
    const auto awake = Guardians::wake(pid);
    if (!awake) return awake.error();
    for (const MoveAsk each : what)
      for (const int door : all)
        if (const auto done = ask(pid, door, each, kStanding, socket, &*awake); !done) return done.error();
  }
  return {};
}

}  // namespace

std::set<int> sharers_descriptors(pid_t pid) {
  std::set<int> numbers;
  for (const int door : doors(pid)) {
    const auto said = ask(pid, door, MoveAsk::kDescriptors, kRunning);
    if (!said) return {};
    std::istringstream words(*said);
    for (int number = 0; words >> number;) numbers.insert(number);
  }
  return numbers;
}

Status prepare_sharers(pid_t root) {
  for (const pid_t pid : tree_of(root))
    for (const int door : doors(pid))
      if (const auto done = ask(pid, door, MoveAsk::kPrepare, kRunning); !done) return done.error();
  return {};
}

Status leave_sharers(pid_t root, const std::string& socket) {
  // One that cannot is found before any has left.
  if (Status tried = ask_all(root, {MoveAsk::kTry}, socket); !tried) return tried;
  return ask_all(root, {MoveAsk::kLeave}, {});
}

Status join_sharers(pid_t root, const std::string& socket) {
  return ask_all(root, {MoveAsk::kJoin}, socket);
}

void restore_sharers(pid_t root, const std::string& socket) {
  for (const pid_t pid : tree_of(root)) {
    const std::vector<int> all = doors(pid);
    if (all.empty()) continue;
    const auto awake = Guardians::wake(pid);
    for (const int door : all)
      if (const Guardians* woken = awake ? &*awake : nullptr;
          !ask(pid, door, MoveAsk::kJoin, kStanding, socket, woken))
        static_cast<void>(ask(pid, door, MoveAsk::kLose, kStanding, {}, woken).ok());
  }
}

}  // namespace gob::migration
