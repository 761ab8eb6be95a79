// How many descriptors this process may have. Any thread.
#pragma once

#include <sys/resource.h>

namespace gob {

// As many as its hard limit allows.
inline void raise_file_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  static_cast<void>(::setrlimit(RLIMIT_NOFILE, &limit));
}

// This descriptor is among the last `count` that the process may have: a new one gets the lowest
// number that is free. Who gives it up again has that many left for what must not fail.
inline bool is_among_last(int fd, rlim_t count) {
  rlimit limit{};
  return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
         static_cast<rlim_t>(fd) + count >= limit.rlim_cur;
}

// The same, of a quarter of all that it may have.
inline bool is_in_last_quarter(int fd) {
  rlimit limit{};
  return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
         static_cast<rlim_t>(fd) >= limit.rlim_cur - limit.rlim_cur / 4;
}

}  // namespace gob
