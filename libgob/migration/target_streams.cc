#include "libgob/migration/target_streams.h"

#include <fcntl.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "libgob/base/ids.h"
#include "libgob/base/pipe.h"
#include "libgob/migration/migrant.h"
#include "libgob/migration/talk.h"

namespace gob::migration {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kLookMs = 500;
constexpr std::chrono::seconds kLookForDeath{1};
constexpr std::chrono::seconds kPatience{5};
constexpr std::size_t kChunk = std::size_t{16} << 10;
// Into the process's pipe at once: it is writable again when the process has read all.
constexpr int kInputBytes = static_cast<int>(kPageSize);

}  // namespace

Result<std::unique_ptr<TargetStreams>> TargetStreams::open(const std::string& socket,
                                                           const std::string& record,
                                                           const Streams& streams,
                                                           const Terminal* terminal) {
  try {
    gobelins::Connection gob(socket);
    std::unique_ptr<TargetStreams> all(new TargetStreams(gob, record));
    all->stop_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!all->stop_) return system_error("making an eventfd");
    for (const Stream& stream : streams) {
      auto ring = StreamRing::open(gob, record, stream.index());
      if (!ring) return ring.error();
      auto pipe = make_pipe();
      if (!pipe) return pipe.error();
      UniqueFd& ours = stream.input() ? pipe->in : pipe->out;
      UniqueFd& theirs = stream.input() ? pipe->out : pipe->in;
      struct stat info {};
      if (::fcntl(ours.get(), F_SETFL, O_NONBLOCK) != 0 ||
          ::fcntl(theirs.get(), F_SETFL, static_cast<int>(stream.flags()) & O_NONBLOCK) != 0 ||
          ::fstat(theirs.get(), &info) != 0 ||
          ::fchown(theirs.get(), stream.uid(), stream.gid()) != 0 ||
          (stream.input() && ::fcntl(ours.get(), F_SETPIPE_SZ, kInputBytes) != kInputBytes))
        return system_error("making a pipe for the process");
      Stream here = stream;
      here.set_pipe(info.st_ino);
      all->pumps_.push_back(
          {std::move(here), std::move(*ring), std::move(ours), std::move(theirs), "", {}, {}});
    }
    if (terminal != nullptr) {
      auto made = TargetTerminal::open(gob, record, *terminal, [here = all.get()] { return here->goes_on(); });
      if (!made) return made.error();
      all->terminal_ = std::move(*made);
    }
    return all;
  } catch (const std::system_error& error) {
    return error_of(error, "connecting to gobd at " + socket);
  }
}

TargetStreams::~TargetStreams() {
  if (started_) static_cast<void>(stop());
}

std::vector<UniqueFd> TargetStreams::ends() {
  std::vector<UniqueFd> all;
  for (Pump& pump : pumps_) all.push_back(std::move(pump.theirs));
  if (terminal_)
    for (UniqueFd& end : terminal_->ends()) all.push_back(std::move(end));
  return all;
}

TargetStreams::Streams TargetStreams::here() const {
  const std::lock_guard lock(mutex_);
  Streams all;
  for (const Pump& pump : pumps_)
    if (pump.ours) *all.Add() = pump.stream;
  return all;
}

void TargetStreams::start(const Rests& rests) {
  stopping_ = false;
  started_ = true;
  eventfd_t ignored = 0;
  static_cast<void>(::eventfd_read(stop_.get(), &ignored));
  const auto taken = take_lock(gob_, relay_lock(record_, false), kPatience);
  if (!taken || !*taken) spdlog::warn("{}: its streams are still relayed elsewhere", record_);
  for (const Rest& rest : rests)
    for (Pump& pump : pumps_)
      if (pump.stream.index() == rest.index()) pump.rest = rest.data();
  if (terminal_) terminal_->start(rests);
  for (Pump& pump : pumps_) {
    if (!pump.ours) continue;
    pump.thread = std::thread([this, &pump] {
      const Status status = pump.stream.input() ? give(pump) : pass(pump);
      if (status) return;
      spdlog::warn("{}: stream {} is closed: {}", record_, pump.stream.index(),
                   status.error().message());
      close(pump);
    });
  }
}

// Not when it is to stop, nor when the relay at the source is gone: looked at once in a while.
bool TargetStreams::goes_on() {
  if (stopping_) return false;
  const std::lock_guard lock(mutex_);
  if (!source_lives_ || Clock::now() < next_look_) return source_lives_;
  next_look_ = Clock::now() + kLookForDeath;
  gobelins::Mutex source = gob_.mutex(relay_lock(record_, true));
  const auto held = is_held(source);
  if (held) source_lives_ = *held;
  return source_lives_;
}

// What comes from the source goes to the process.
Status TargetStreams::give(Pump& pump) {
  // After a move that failed, what was given already is in the process's pipe still.
  if (!pump.position) {
    const auto begin = pump.ring.taken();
    if (!begin) return begin.error();
    pump.position = *begin;
  }
  std::string bytes(kInputBytes, '\0');
  while (true) {
    pollfd waiting[2] = {{pump.ours.get(), POLLOUT, 0}, {stop_.get(), POLLIN, 0}};
    if (::poll(waiting, 2, -1) < 0 && errno != EINTR) return system_error("waiting for the process");
    if (stopping_) return {};
    if ((waiting[0].revents & POLLERR) != 0) {  // it has closed its end
      close(pump);
      return pump.ring.close_reader();
    }
    if ((waiting[0].revents & POLLOUT) == 0) continue;
    // It has read all.
    if (Status taken = pump.ring.take(*pump.position); !taken) return taken;
    const auto got = pump.ring.look(*pump.position, bytes.data(), bytes.size(), [&] {
      pollfd closed{pump.ours.get(), 0, 0};
      return ::poll(&closed, 1, 0) == 0 && goes_on();
    });
    if (!got) return got.error();
    if (*got == 0) {
      pollfd closed{pump.ours.get(), 0, 0};
      if (stopping_) return {};
      if (::poll(&closed, 1, 0) != 0) continue;
      close(pump);  // no more will come
      return {};
    }
    const ssize_t put = ::write(pump.ours.get(), bytes.data(), *got);
    if (put > 0) *pump.position += static_cast<std::uint64_t>(put);
  }
}

// What the process writes goes to the source.
Status TargetStreams::pass(Pump& pump) {
  while (true) {
    if (!pump.rest.empty()) {
      const auto put = pump.ring.put(pump.rest.data(), pump.rest.size(), [this] { return goes_on(); });
      if (!put) return put.error();
      pump.rest.erase(0, *put);
      if (stopping_) return {};
      if (!pump.rest.empty()) {  // nobody reads it any more
        close(pump);
        return {};
      }
    }
    pollfd waiting[2] = {{pump.ours.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
    if (::poll(waiting, 2, kLookMs) < 0 && errno != EINTR) return system_error("waiting for the process");
    if (stopping_) return {};
    const auto closed = pump.ring.is_closed(false);
    if (!closed) return closed.error();
    const bool wanted = !*closed && goes_on();
    if (stopping_) return {};
    if (!wanted) {
      close(pump);
      return {};
    }
    if (waiting[0].revents == 0) continue;
    pump.rest.resize(kChunk);
    const ssize_t got = ::read(pump.ours.get(), pump.rest.data(), pump.rest.size());
    pump.rest.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    if (got < 0) continue;  // EAGAIN
    if (got == 0) {  // nobody has it open
      close(pump);
      return pump.ring.close_writer();
    }
  }
}

void TargetStreams::close(Pump& pump) {
  const std::lock_guard lock(mutex_);
  pump.ours.reset();
}

void TargetStreams::join() {
  for (Pump& pump : pumps_)
    if (pump.thread.joinable()) pump.thread.join();
}

TargetStreams::Rests TargetStreams::stop() {
  stopping_ = true;
  static_cast<void>(::eventfd_write(stop_.get(), 1));
  for (Pump& pump : pumps_) pump.ring.wake();
  join();
  Rests rests;
  for (Pump& pump : pumps_) {
    if (!pump.ours) continue;
    if (pump.stream.input()) {
      int unread = 0;
      if (pump.position && ::ioctl(pump.ours.get(), FIONREAD, &unread) == 0)
        static_cast<void>(pump.ring.take(*pump.position - static_cast<std::uint64_t>(unread)));
      continue;
    }
    std::string bytes(kChunk, '\0');
    for (ssize_t got = 0; (got = ::read(pump.ours.get(), bytes.data(), bytes.size())) > 0;)
      pump.rest.append(bytes, 0, static_cast<std::size_t>(got));
    Rest& rest = *rests.Add();
    rest.set_index(pump.stream.index());
    rest.set_data(pump.rest);
  }
  if (terminal_) terminal_->stop(rests);
  ::gob_unlock(gob_.get(), relay_lock(record_, false).c_str());
  started_ = false;
  return rests;
}

void TargetStreams::finish() {
  if (terminal_) terminal_->finish();
  join();
  ::gob_unlock(gob_.get(), relay_lock(record_, false).c_str());
  started_ = false;
}

}  // namespace gob::migration
