#include "libgob/migration/source_streams.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <thread>

#include "libgob/base/pipe.h"
#include "libgob/migration/migrant.h"
#include "libgob/migration/outside_pipes.h"
#include "libgob/migration/outside_terminal.h"
#include "libgob/migration/session.h"
#include "libgob/migration/source_terminal.h"
#include "libgob/migration/stream_ring.h"
#include "libgob/migration/talk.h"

namespace gob::migration {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kStartMs = 20'000;
constexpr int kLookMs = 500;
constexpr std::chrono::seconds kTakeOver{30};
constexpr std::chrono::seconds kLookForDeath{1};
constexpr char kGo = 'g', kGiveUp = 'n';
constexpr std::size_t kChunk = std::size_t{64} << 10;

void close_all_but(std::vector<int> keep) {
  const int null = ::open("/dev/null", O_RDWR);
  for (int fd = 0; fd < 3; ++fd) ::dup2(null, fd);
  std::ranges::sort(keep);
  unsigned from = 3;
  for (const int fd : keep) {
    if (static_cast<unsigned>(fd) > from) ::close_range(from, static_cast<unsigned>(fd) - 1, 0);
    from = static_cast<unsigned>(fd) + 1;
  }
  ::close_range(from, ~0U, 0);
}

class Relay {
 public:
  Relay(const std::string& socket, std::string record)
      : socket_(socket), gob_(socket), name_(std::move(record)) {}

  Status prepare(std::size_t streams) {
    const auto taken = take_lock(gob_, relay_lock(name_, true), kTakeOver);
    if (!taken) return taken.error();
    return StreamRing::create(gob_, name_, streams);
  }

  // Did the process go? Whoever knew has ended, perhaps just before the target's word.
  bool find_out() {
    const auto deadline = Clock::now() + kTakeOver;
    while (Clock::now() < deadline) {
      const auto record = MigrantRecord::open(gob_, name_);
      const auto migrant = record ? look_at(gob_, *record) : record.error();
      if (!migrant) return false;  // the guard has removed it: it goes on here
      if (migrant->moves() != 0) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(kLookMs));
    }
    return false;
  }

  void run(std::vector<UniqueFd> fds, const std::vector<Stream>& streams,
           const std::optional<Terminal>& terminal) {
    std::vector<std::thread> pumps;
    for (std::size_t i = 0; i < streams.size(); ++i)
      pumps.emplace_back([this, input = streams[i].input(), index = streams[i].index(),
                          fd = std::move(fds[i])]() mutable {
        auto ring = StreamRing::open(gob_, name_, index);
        if (!ring) return;
        // An error says that the container is lost: the descriptor is closed, and its other end
        // sees that.
        static_cast<void>(input ? give(fd, *ring) : pass(fd, *ring));
      });
    if (terminal) {
      auto output = StreamRing::open(gob_, name_, terminal->index());
      auto keys = StreamRing::open(gob_, name_, terminal->index() + 1);
      if (output && keys)
        SourceTerminal(std::move(fds.back()), std::move(*output), std::move(*keys),
                       [this] { return other_end_lives(); })
            .run();
    }
    for (std::thread& each : pumps) each.join();
    static_cast<void>(remove_session(socket_, streams_of(name_)));
  }

 private:
  // Is anybody left who could read or write at the other end? Looked at once in a while.
  bool other_end_lives() {
    const std::lock_guard lock(mutex_);
    if (!lives_ || Clock::now() < next_look_) return lives_;
    next_look_ = Clock::now() + kLookForDeath;
    gobelins::Mutex there = gob_.mutex(relay_lock(name_, false));
    const auto held = is_held(there);
    const auto record = MigrantRecord::open(gob_, name_);
    const auto migrant = record ? look_at(gob_, *record) : record.error();
    // Nobody relays there while it is on its way to another node, and for a moment nobody keeps its
    // record: only what is seen twice counts.
    const bool over = held && !*held && (!migrant || is_over(*migrant));
    looks_over_ = over ? looks_over_ + 1 : 0;
    lives_ = looks_over_ < 2;
    return lives_;
  }

  // What comes here goes to the process.
  Status give(const UniqueFd& fd, StreamRing& ring) {
    std::string bytes(kChunk, '\0');
    while (true) {
      const auto closed = ring.is_closed(false);
      if (!closed) return closed.error();
      if (*closed || !other_end_lives()) return {};
      pollfd waiting{fd.get(), POLLIN, 0};
      if (::poll(&waiting, 1, kLookMs) <= 0) continue;
      const ssize_t got = ::read(fd.get(), bytes.data(), bytes.size());
      if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
      if (got <= 0) {
        // The bytes are in a container that goes with this process.
        if (Status closed_it = ring.close_writer(); !closed_it) return closed_it;
        return ring.await_taken([this] { return other_end_lives(); });
      }
      const auto wanted = static_cast<std::size_t>(got);
      const auto put = ring.put(bytes.data(), wanted, [this] { return other_end_lives(); });
      if (!put) return put.error();
      if (*put < wanted) return {};
    }
  }

  // What the process writes comes here.
  Status pass(const UniqueFd& fd, StreamRing& ring) {
    std::string bytes(kChunk, '\0');
    for (std::uint64_t at = 0;;) {
      const auto got = ring.look(at, bytes.data(), bytes.size(), [this] { return other_end_lives(); });
      if (!got) return got.error();
      if (*got == 0) return {};
      for (std::size_t done = 0; done < *got;) {
        const ssize_t step = ::write(fd.get(), bytes.data() + done, *got - done);
        if (step >= 0) {
          done += static_cast<std::size_t>(step);
        } else if (errno == EAGAIN) {
          pollfd waiting{fd.get(), POLLOUT, 0};
          ::poll(&waiting, 1, -1);
        } else if (errno != EINTR) {
          return ring.close_reader();  // nobody reads: the process shall know
        }
      }
      at += *got;
      if (Status taken = ring.take(at); !taken) return taken;
    }
  }

  const std::string socket_;
  gobelins::Connection gob_;
  const std::string name_;
  std::mutex mutex_;
  bool lives_ = true;
  int looks_over_ = 0;  // in a row
  Clock::time_point next_look_{};
};

[[noreturn]] void relay(const UniqueFd& pipe, UniqueFd answer, const std::string& socket,
                        const std::string& record, std::vector<UniqueFd> fds,
                        const std::vector<Stream>& streams,
                        const std::optional<Terminal>& terminal) {
  ::prctl(PR_SET_NAME, "gobmigrate-rly");
  ::setsid();  // no signal of the terminal
  ::signal(SIGPIPE, SIG_IGN);
  std::vector<int> keep{pipe.get(), answer.get()};
  for (const UniqueFd& fd : fds) keep.push_back(fd.get());
  close_all_but(keep);
  try {
    std::uint32_t streams_needed = 0;
    for (const Stream& stream : streams) streams_needed = std::max(streams_needed, stream.index() + 1);
    if (terminal) streams_needed = std::max(streams_needed, terminal->index() + 2);
    Relay all(socket, record);
    const Status ready = all.prepare(streams_needed);
    const std::string said = ready ? "+" : "-" + ready.error().message();
    if (::write(answer.get(), said.data(), said.size()) < 0 || !ready) ::_exit(1);
    answer.reset();
    char word = 0;
    const bool told = TEMP_FAILURE_RETRY(::read(pipe.get(), &word, 1)) == 1;
    if (told ? word == kGo : all.find_out()) all.run(std::move(fds), streams, terminal);
  } catch (const std::system_error&) {
    ::_exit(1);  // gobd has ended, and with it all that could be relayed
  }
  ::_exit(0);
}

}  // namespace

Result<SourceStreams> SourceStreams::start(const std::string& socket, const std::string& record,
                                           const std::vector<Stream>& streams,
                                           const std::optional<Terminal>& terminal) {
  std::vector<UniqueFd> fds;
  for (const Stream& stream : streams) {
    auto fd = take_stream(stream);
    if (!fd) return fd.error();
    fds.push_back(std::move(*fd));
  }
  if (terminal) {
    auto fd = open_terminal(*terminal);
    if (!fd) return fd.error();
    fds.push_back(std::move(*fd));
  }
  auto down = make_pipe();
  auto up = make_pipe();
  if (!down) return down.error();
  if (!up) return up.error();
  const pid_t pid = ::fork();
  if (pid < 0) return system_error("starting the relay of the standard streams");
  if (pid == 0) {
    down->in.reset();
    relay(down->out, std::move(up->in), socket, record, std::move(fds), streams, terminal);
  }
  up->in.reset();
  std::string said(1024, '\0');
  pollfd waiting{up->out.get(), POLLIN, 0};
  const ssize_t got =
      ::poll(&waiting, 1, kStartMs) == 1 ? ::read(up->out.get(), said.data(), said.size()) : -1;
  said.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  if (said == "+") return SourceStreams(pid, std::move(down->in));
  return make_error(ErrorCode::kUnavailable,
                    "the relay of the standard streams does not start" +
                        (said.empty() ? "" : ": " + said.substr(1)));
}

void SourceStreams::go() {
  // If it is gone the process sees its streams closed.
  if (::write(pipe_.get(), &kGo, 1) != 1) return;
}

void SourceStreams::give_up() {
  if (::write(pipe_.get(), &kGiveUp, 1) != 1) return;
  TEMP_FAILURE_RETRY(::waitpid(relay_, nullptr, 0));
}

}  // namespace gob::migration
