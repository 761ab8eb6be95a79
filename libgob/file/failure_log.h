// FailureLog: what programs get EIO for on gobd's own account, in the log. A home that is gone
// fails every operation on its files, so of each kind one line is written at once and the rest are
// counted for a while; the next line, or flush(), says how many there were. Any thread.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <mutex>
#include <string>

namespace gob::file {

class FailureLog {
 public:
  using Clock = std::chrono::steady_clock;
  using Say = std::function<void(const std::string& line)>;

  // `quiet`: how long a kind is only counted after a line of it.
  explicit FailureLog(Clock::duration quiet = std::chrono::seconds(10));
  // For tests: where the lines go, and what time it is.
  using Now = std::function<Clock::time_point()>;
  FailureLog(Clock::duration quiet, Say say, Now now = &Clock::now)
      : quiet_(quiet), say_(std::move(say)), now_(std::move(now)) {}

  // `kind`: one of few; `text`, made only if it is written: what was tried, on what, why it failed,
  // what to do.
  void add(const std::string& kind, const std::function<std::string()>& text);
  // Says how many were left out of each kind whose while is over. When to call it again; max: not
  // before something is added.
  Clock::time_point flush();

 private:
  struct Kind {
    Clock::time_point quiet_until;
    unsigned long long left_out = 0;
    std::string last;  // line
  };

  const Clock::duration quiet_;
  const Say say_;
  const Now now_;
  std::mutex mutex_;
  std::map<std::string, Kind> kinds_;  // guarded by mutex_
};

}  // namespace gob::file
