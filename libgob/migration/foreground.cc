#include "libgob/migration/foreground.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include <atomic>
#include <optional>
#include <thread>

#include "libgob/base/unique_fd.h"
#include "libgob/migration/migrant.h"
#include "libgob/migration/stream_ring.h"
#include "libgob/migration/talk.h"

namespace gob::migration {
namespace {

constexpr std::chrono::milliseconds kPatience{2000};  // with one that has just ended
constexpr std::chrono::milliseconds kLook{500};
constexpr std::size_t kChunk = 1024;

// The caller's terminal, which does nothing by itself as long as this lives.
class RawTerminal {
 public:
  static Result<RawTerminal> of(const termios& usual) {
    termios raw = usual;
    ::cfmakeraw(&raw);
    if (::tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) != 0)
      return system_error("setting the terminal");
    return RawTerminal(usual);
  }
  RawTerminal(RawTerminal&& other) noexcept : usual_(std::exchange(other.usual_, std::nullopt)) {}
  RawTerminal& operator=(RawTerminal&&) = delete;
  ~RawTerminal() {
    if (usual_) ::tcsetattr(STDIN_FILENO, TCSADRAIN, &*usual_);
  }

 private:
  explicit RawTerminal(const termios& usual) : usual_(usual) {}
  std::optional<termios> usual_;
};

// Waits for the migrant's end in a thread.
class End {
 public:
  End(const std::string& socket, const std::string& record)
      : thread_([this, socket, record] {
          do {
            migrant_ = await_end_of(socket, record, kLook);
          } while (!stop_ && !migrant_ && migrant_.error().code == ErrorCode::kTimedOut);
          over_ = true;
          static_cast<void>(::eventfd_write(said_.get(), 1));
        }) {}
  ~End() {
    stop_ = true;
    thread_.join();
  }
  [[nodiscard]] bool is_over() const { return over_; }
  [[nodiscard]] int fd() const { return said_.get(); }
  // Once it is over.
  [[nodiscard]] const Result<Migrant>& migrant() const { return migrant_; }

 private:
  UniqueFd said_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::atomic<bool> stop_{false}, over_{false};
  Result<Migrant> migrant_{make_error(ErrorCode::kTimedOut, "it has not ended yet")};
  std::thread thread_;
};

class Foreground {
 public:
  Foreground(gobelins::Connection gob, const std::string& record, StreamRing output,
             StreamRing keys, UniqueFd signals)
      : gob_(std::move(gob)),
        lock_(record + ".keys"),
        output_(std::move(output)),
        keys_(std::move(keys)),
        signals_(std::move(signals)) {}
  ~Foreground() {
    if (mine_) ::gob_unlock(gob_.get(), lock_.c_str());
  }

  Result<Migrant> run(const std::string& socket, const std::string& record) {
    if (!signals_ || ::tcgetattr(STDIN_FILENO, &usual_) != 0)
      return system_error("looking at the terminal");
    End end(socket, record);
    while (!end.is_over()) {
      if (Status taken = take(); !taken) return taken.error();
      auto raw = RawTerminal::of(usual_);
      if (!raw) return raw.error();
      const auto suspended = pass(end);
      if (!suspended) return suspended.error();
      if (!*suspended) break;
      ::gob_unlock(gob_.get(), lock_.c_str());
      mine_ = false;
      RawTerminal(std::move(*raw));  // as it was
      ::kill(0, SIGSTOP);            // what the shell started as one job
    }
    // What it wrote last is out when the relay has taken it; if that has gone, so it is.
    static_cast<void>(output_.await_taken([] { return true; }));
    return end.migrant();
  }

 private:
  Status take() {
    const auto taken = take_lock(gob_, lock_, kPatience);
    if (!taken) return taken.error();
    if (!*taken)
      return make_error(ErrorCode::kAlreadyExists, "somebody else is in its foreground", EBUSY);
    mine_ = true;
    return {};
  }

  // Until the end, or true: the suspend key.
  Result<bool> pass(const End& end) {
    const bool has_key = (usual_.c_lflag & ISIG) != 0 && usual_.c_cc[VSUSP] != _POSIX_VDISABLE;
    while (true) {
      pollfd waiting[3] = {
          {STDIN_FILENO, POLLIN, 0}, {end.fd(), POLLIN, 0}, {signals_.get(), POLLIN, 0}};
      if (::poll(waiting, 3, -1) < 0 && errno != EINTR) return system_error("waiting for keys");
      if (end.is_over()) return false;
      signalfd_siginfo signal{};
      if (waiting[2].revents != 0 && ::read(signals_.get(), &signal, sizeof signal) > 0)
        return make_error(
            ErrorCode::kSystem,
            "ended by signal " + std::to_string(signal.ssi_signo) + "; the process goes on");
      if (waiting[0].revents == 0) continue;
      char bytes[kChunk];
      const ssize_t got = ::read(STDIN_FILENO, bytes, sizeof bytes);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0)
        return make_error(ErrorCode::kSystem, "the terminal has hung up; the process goes on");
      std::string typed(bytes, static_cast<std::size_t>(got));
      const std::size_t suspend =
          has_key ? typed.find(static_cast<char>(usual_.c_cc[VSUSP])) : std::string::npos;
      if (suspend != std::string::npos) typed.resize(suspend);
      const auto put = keys_.put(typed.data(), typed.size(), [&] { return !end.is_over(); });
      if (!put) return put.error();
      if (suspend != std::string::npos) return true;
    }
  }

  gobelins::Connection gob_;
  const std::string lock_;
  StreamRing output_, keys_;
  UniqueFd signals_;
  termios usual_{};
  bool mine_ = false;
};

}  // namespace

Result<Migrant> follow_in_foreground(const std::string& socket, const std::string& name) {
  if (::isatty(STDIN_FILENO) == 0)
    return make_error(ErrorCode::kInvalidArgument, "the standard input is no terminal");
  // In all threads, or the terminal would stay as it is meanwhile.
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set, signal);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  UniqueFd signals(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  try {
    gobelins::Connection gob(socket);
    const auto record = MigrantRecord::open(gob, name);
    if (!record) return record.error();
    auto migrant = look_at(gob, *record);
    if (!migrant || migrant->state() == Migrant::ENDED) return migrant;
    if (migrant->terminal().empty())
      return make_error(ErrorCode::kInvalidArgument,
                        "the process was not started in a terminal: nothing can be typed for it");
    auto output = StreamRing::open(gob, name, migrant->terminal_stream());
    auto keys = StreamRing::open(gob, name, migrant->terminal_stream() + 1);
    if (!output) return output.error();
    if (!keys) return keys.error();
    return Foreground(gob, name, std::move(*output), std::move(*keys), std::move(signals))
        .run(socket, name);
  } catch (const std::system_error& error) {
    return error_of(error, "reaching the process through gobd at " + socket);
  }
}

}  // namespace gob::migration
