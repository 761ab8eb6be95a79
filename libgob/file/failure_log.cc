#include "libgob/file/failure_log.h"

#include <spdlog/spdlog.h>

#include <utility>

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
  if (left_out != 0)
    line += " (" + std::to_string(left_out) + " more like this since the last line)";
  say_(line);
}

}  // namespace gob::file
