#include "libgob/file/removal_watch.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <vector>

namespace gob::file {

namespace {
constexpr std::size_t kEventBytes = 16 << 10;
}  // namespace

Status RemovalWatch::start() {
  events_.reset(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!events_) return system_error("cannot watch for files that are removed");
  end_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!end_) return system_error("cannot watch for files that are removed");
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error& error) {
    return make_error(ErrorCode::kSystem, "cannot start the thread that watches for removed files",
                      error.code().value());
  }
  return {};
}

void RemovalWatch::stop() {
  if (!thread_.joinable()) return;
  const std::uint64_t one = 1;
  // An eventfd takes this unless its counter is full, and then it is readable anyway.
  static_cast<void>(::write(end_.get(), &one, sizeof one));
  thread_.join();
}

void RemovalWatch::add(std::uint64_t number, const std::string& path) {
  if (!events_) return;
  const std::lock_guard guard(mutex_);
  const int watch = ::inotify_add_watch(events_.get(), path.c_str(), IN_ATTRIB);
  if (watch < 0) return;
  numbers_[watch].insert(number);
  watches_[number] = watch;
}

void RemovalWatch::remove(std::uint64_t number) {
  const std::lock_guard guard(mutex_);
  const auto found = watches_.find(number);
  if (found == watches_.end()) return;
  const int watch = found->second;
  watches_.erase(found);
  const auto shared = numbers_.find(watch);
  if (shared == numbers_.end()) return;
  shared->second.erase(number);
  if (!shared->second.empty()) return;
  numbers_.erase(shared);
  ::inotify_rm_watch(events_.get(), watch);  // fails if the file went first
}

void RemovalWatch::run() {
  ::prctl(PR_SET_NAME, "gob-removals");
  std::array<pollfd, 2> fds{{{events_.get(), POLLIN, 0}, {end_.get(), POLLIN, 0}}};
  using Clock = std::chrono::steady_clock;
  for (Clock::time_point next = Clock::now() + kLook;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(next - Clock::now());
    const int limit = static_cast<int>(std::max<std::int64_t>(left.count(), 0));
    if (::poll(fds.data(), fds.size(), limit) < 0 && errno != EINTR) return;
    if (fds[1].revents != 0) return;
    if (fds[0].revents != 0) read_events();
    const Clock::time_point begin = Clock::now();
    if (begin < next) continue;
    look_();
    const Clock::time_point end = Clock::now();
    next = end + std::max<Clock::duration>(kLook, 99 * (end - begin));
  }
}

void RemovalWatch::read_events() {
  std::array<char, kEventBytes> bytes{};
  const ssize_t got = ::read(events_.get(), bytes.data(), bytes.size());
  std::set<std::uint64_t> changed;
  for (std::size_t at = 0; got > 0 && at < static_cast<std::size_t>(got);) {
    inotify_event event{};
    std::memcpy(&event, &bytes[at], sizeof event);
    at += sizeof event + event.len;
    const std::lock_guard guard(mutex_);
    if ((event.mask & IN_Q_OVERFLOW) != 0) {  // events were lost: it may be any
      for (const auto& [number, watch] : watches_) changed.insert(number);
      continue;
    }
    const auto numbers = numbers_.find(event.wd);
    if (numbers == numbers_.end()) continue;
    if ((event.mask & IN_ATTRIB) != 0)
      changed.insert(numbers->second.begin(), numbers->second.end());
    if ((event.mask & IN_IGNORED) != 0) numbers_.erase(numbers);  // the host ended the watch
  }
  for (const std::uint64_t number : changed) changed_(number);
}

}  // namespace gob::file
