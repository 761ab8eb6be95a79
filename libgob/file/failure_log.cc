#include "libgob/file/failure_log.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace gob::file {

FailureLog::FailureLog(Clock::duration quiet)
    : FailureLog(quiet, [](const std::string& line) { spdlog::error("{}", line); }) {}

void FailureLog::add(const std::string& kind, const std::function<std::string()>& text) {
  unsigned long long left_out = 0;
  {
    const std::lock_guard guard(mutex_);
    Kind& known = kinds_[kind];
    const Clock::time_point now = now_();
    if (now < known.quiet_until) {
      ++known.left_out;
      return;
    }
    known.quiet_until = now + quiet_;
    left_out = std::exchange(known.left_out, 0);
  }
  std::string line = text();
  {
    const std::lock_guard guard(mutex_);
    kinds_[kind].last = line;
  }
  if (left_out != 0)
    line += " (" + std::to_string(left_out) + " more like this since the last line)";
  say_(line);
}

FailureLog::Clock::time_point FailureLog::flush() {
  Clock::time_point next = Clock::time_point::max();
  std::vector<std::string> lines;
  {
    const std::lock_guard guard(mutex_);
    const Clock::time_point now = now_();
    for (auto& [kind, known] : kinds_) {
      if (known.left_out == 0) continue;
      if (now < known.quiet_until) {
        next = std::min(next, known.quiet_until);
        continue;
      }
      known.quiet_until = now + quiet_;
      lines.push_back(std::to_string(std::exchange(known.left_out, 0)) +
                      " more like this: " + known.last);
    }
  }
  for (const std::string& line : lines) say_(line);
  return next;
}

}  // namespace gob::file
