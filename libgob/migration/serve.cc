// Takes migrations for a node.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <chrono>
#include <utility>

#include "libgob/base/unique_fd.h"
#include "libgob/migration/proc.h"
#include "libgob/migration/session.h"
#include "libgob/migration/shared_memory.h"
#include "libgob/migration/talk.h"
#include "libgob/migration/target.h"
#include "libgob/runtime/control_client.h"

namespace gob::migration {
namespace {

constexpr std::size_t kInboxBytes = 256;
constexpr std::chrono::milliseconds kLookForStop{500};
constexpr std::chrono::seconds kGobd{10};
// For memory in common that nobody has any more (common_sweep.h): how often, and once more so soon
// after nodes have come or gone, whose locks may be held for a moment yet; and for how long.
constexpr std::chrono::seconds kSweep{60};
constexpr std::chrono::seconds kSweepAgain{5};
constexpr unsigned kSweepSeconds = 45;

// A process of its own, so that no migration can hurt another, and each can be forked before it has
// threads.
void start_session(const std::string& program, const std::string& socket, const std::string& criu,
                   const std::string& session) {
  const pid_t pid = ::fork();
  if (pid < 0) spdlog::error("{}: cannot start a process for it", session);
  if (pid != 0) return;
  ::setsid();
  ::signal(SIGCHLD, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::close_range(3, ~0U, 0);
  ::execl(program.c_str(), "gobmigrate", "receive", session.c_str(), "--socket", socket.c_str(),
          "--criu", criu.c_str(), nullptr);
  ::_exit(127);
}

// Of its own, too: it may have to wait for a node that hangs, and letters do not. It ends with this
// one. Returns what tells when it ended: none, if it has already.
UniqueFd start_sweep(const std::string& program, const std::string& socket) {
  const pid_t server = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) {
    spdlog::error(
        "{}; it is tried again within a minute",
        system_error("starting a process that looks for shared memory nobody has").message());
    return {};
  }
  if (pid != 0) return open_process(pid);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != server) ::_exit(0);
  ::signal(SIGCHLD, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::close_range(3, ~0U, 0);
  ::alarm(kSweepSeconds);
  ::execl(program.c_str(), "gobmigrate", "sweep", "--socket", socket.c_str(), nullptr);
  ::_exit(127);
}

// Starts them: when nodes have come or gone, once more soon after, and now and then; one at a time,
// since a second one would wait for the same.
class Sweeps {
 public:
  void go_on(std::uint64_t epoch, const std::string& program, const std::string& socket) {
    const auto now = std::chrono::steady_clock::now();
    pollfd ended{under_way_.get(), POLLIN, 0};
    if (under_way_ && ::poll(&ended, 1, 0) == 0) return;
    const bool changed = std::exchange(epoch_, epoch) != epoch;
    if (!changed && now < next_) return;
    next_ = now + (changed ? kSweepAgain : kSweep);
    under_way_ = start_sweep(program, socket);
  }

 private:
  UniqueFd under_way_;
  std::uint64_t epoch_ = 0;
  std::chrono::steady_clock::time_point next_;
};

// Of the view of the cluster: another one when nodes have come or gone. `last`, if gobd takes its
// time.
Result<std::uint64_t> epoch_of(ControlClient& gobd, std::uint64_t last) {
  control::Request nodes;
  nodes.mutable_nodes();
  const auto answer = gobd.call(nodes, {}, kGobd);
  if (!answer && answer.error().code == ErrorCode::kTimedOut) return last;
  if (!answer) return answer.error();
  return answer->reply.nodes().epoch();
}

}  // namespace

Status serve(const std::string& socket, const std::string& program, const std::string& criu,
             int stop_fd) {
  ::signal(SIGCHLD, SIG_IGN);  // sessions report by the log
  try {
    gobelins::Connection gob(socket);
    const std::string node = gob.node_name(gob.node_id());
    gobelins::Mutex alive = gob.mutex(alive_name(node));
    if (auto held = is_held(alive); !held || *held)
      return held ? make_error(ErrorCode::kAlreadyExists,
                               "another gobmigrate serve runs on node " + node, EEXIST)
                  : held.error();
    alive.lock();
    try {
      gob.create(inbox_name(node), kInboxBytes);
    } catch (const std::system_error& error) {
      if (error.code().value() != EEXIST) throw;  // that of a server that died
    }
    const gobelins::Mapping inbox = gob.open(inbox_name(node)).map();
    char* const bytes = static_cast<char*>(inbox.data());
    gobelins::Mutex lock = gob.mutex(inbox_name(node) + ".lock");
    gobelins::Condition changed = gob.condition(inbox_name(node) + ".changed", lock);
    static_cast<void>(lock.lock_owner_died());
    if (Status empty = store(bytes, '\0'); !empty) return empty;
    spdlog::info("taking processes for node {}", node);
    pollfd stop{stop_fd, POLLIN, 0};
    const auto gobd = ControlClient::connect(socket, "gobmigrate", kGobd);
    if (!gobd) return gobd.error();
    Sweeps sweeps;
    std::uint64_t epoch = 0;
    while (::poll(&stop, 1, 0) == 0) {
      const auto now = epoch_of(**gobd, epoch);
      if (!now) return now.error();
      epoch = *now;
      sweeps.go_on(epoch, program, socket);
      const auto size = load(bytes);
      if (!size) return size.error();
      if (*size == 0) {
        // The letter is whole or not there, whoever died.
        static_cast<void>(wait_for_news(changed, kLookForStop));
        continue;
      }
      std::string session(static_cast<unsigned char>(*size), '\0');
      if (Status got = load(session.data(), bytes + 1, session.size()); !got) return got;
      if (Status empty = store(bytes, '\0'); !empty) return empty;
      changed.broadcast();
      spdlog::info("{}: begins", session);
      start_session(program, socket, criu, session);
    }
    lock.unlock();
    gob.remove(inbox_name(node));
    return {};
  } catch (const std::system_error& error) {
    return error_of(error, "serving migrations");
  }
}

}  // namespace gob::migration
