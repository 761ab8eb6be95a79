// Another process, by its number: where proc(5) shows it, and what pidfd_open(2) and pidfd_getfd(2)
// give of it. Any thread.
#pragma once

#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <string>

#include "libgob/base/unique_fd.h"

namespace gob::migration {

inline std::string proc(pid_t pid, const std::string& what) {
  return "/proc/" + std::to_string(pid) + "/" + what;
}

// Readable once the process has ended; as long as it is open the number means no other. Empty, with
// errno set: there is no such process, or no room.
inline UniqueFd open_process(pid_t pid) {
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

// The same open file as its descriptor `fd`, here. Empty, with errno set: there is none, or no right
// or room.
inline UniqueFd copy_descriptor(pid_t pid, int fd) {
  const UniqueFd process = open_process(pid);
  return UniqueFd(process ? static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), fd, 0)) : -1);
}

}  // namespace gob::migration
