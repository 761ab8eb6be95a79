#include "libgob/migration/timers.h"

#include <spdlog/spdlog.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "libgob/base/unique_fd.h"
#include "libgob/migration/inspect.h"
#include "libgob/migration/proc.h"
#include "libgob/migration/visit.h"

namespace gob::migration {
namespace {

namespace fs = std::filesystem;

// Of linux/timerfd.h, which glibc's header does not bear beside it.
constexpr unsigned long kSetTicks = _IOW('T', 0, std::uint64_t);

constexpr std::chrono::seconds kStops{5};

struct Timer {
  std::uint64_t ticks = 0;
  itimerspec times{};
};

Timer timer_of(const fs::path& info) {
  Timer timer;
  std::ifstream file(info);
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("ticks:")) timer.ticks = std::strtoull(line.c_str() + 6, nullptr, 10);
    static_cast<void>(std::sscanf(line.c_str(), "it_value: (%ld, %ld)",
                                  &timer.times.it_value.tv_sec, &timer.times.it_value.tv_nsec));
    static_cast<void>(std::sscanf(line.c_str(), "it_interval: (%ld, %ld)",
                                  &timer.times.it_interval.tv_sec,
                                  &timer.times.it_interval.tv_nsec));
  }
  return timer;
}

void rearm(pid_t pid, const std::string& fd) {
  Timer timer = timer_of(proc(pid, "fdinfo/" + fd));
  const auto is_zero = [](const timespec& time) { return time.tv_sec == 0 && time.tv_nsec == 0; };
  // One that was never armed, or disarmed, has no ticks.
  if (timer.ticks == 0 || !is_zero(timer.times.it_value) || is_zero(timer.times.it_interval))
    return;
  timer.times.it_value = timer.times.it_interval;
  const UniqueFd own = copy_descriptor(pid, std::atoi(fd.c_str()));
  // Setting it forgets its ticks.
  if (!own || ::timerfd_settime(own.get(), 0, &timer.times, nullptr) != 0 ||
      ::ioctl(own.get(), kSetTicks, &timer.ticks) != 0)
    spdlog::warn("process {}: its timer, descriptor {}, may not expire any more: {}", pid, fd,
                 system_error("arming it").message());
}

}  // namespace

void rearm_timers(pid_t root) {
  for (const pid_t pid : tree_of(root)) {
    std::error_code error;
    for (fs::directory_iterator it(proc(pid, "fd"), error), end; !error && it != end;
         it.increment(error)) {
      std::error_code closed;
      if (fs::read_symlink(it->path(), closed) == "anon_inode:[timerfd]")
        rearm(pid, it->path().filename());
    }
  }
}

Status rearm_alarms(pid_t root, const std::vector<Alarm>& alarms) {
  if (alarms.empty()) return {};
  const std::map<pid_t, pid_t> outside = outside_numbers(root);
  Visits visits(kStops);
  for (const Alarm& alarm : alarms) {
    const auto pid = outside.find(alarm.pid);
    if (pid == outside.end())
      return make_error(ErrorCode::kProtocol, "a timer of process " + std::to_string(alarm.pid) +
                                                  ", which CRIU has not made");
    const auto visit = visits.to(pid->second);
    if (!visit) return visit.error();
    if (Status set = (*visit)->alarm(alarm.which, alarm.left); !set) return set;
  }
  return {};
}

}  // namespace gob::migration
