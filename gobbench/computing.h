// Computing: a process that keeps a core and its caches busy as a program does, for as long as this
// object lives. Main thread: it dies with the thread that made it. A process, not a thread: a
// thread would share this program's page tables, and every change of them would interrupt it.
#pragma once

#include <sys/types.h>

#include <cstddef>

#include "libgob/base/result.h"

namespace gob::bench {

class Computing {
 public:
  // Sweeps over `bytes` of memory, again and again, on `cpu`.
  static Result<Computing> start(unsigned cpu, std::size_t bytes);

  Computing(Computing&& other) noexcept;
  Computing& operator=(Computing&&) = delete;
  ~Computing();

 private:
  explicit Computing(pid_t pid) : pid_(pid) {}

  pid_t pid_;
};

}  // namespace gob::bench
