// Touching memory that may raise SIGBUS, and living to tell. One use at a time in a thread; several
// threads may.
#pragma once

#include <setjmp.h>
#include <signal.h>

namespace gob::test {

namespace detail {
inline thread_local sigjmp_buf bus_error_return;
inline thread_local volatile sig_atomic_t expecting = 0;

inline void on_bus_error(int) {
  if (expecting != 0) ::siglongjmp(bus_error_return, 1);
  ::signal(SIGBUS, SIG_DFL);
  ::raise(SIGBUS);
}
}  // namespace detail

inline void catch_bus_errors() {
  struct sigaction action {};
  action.sa_handler = detail::on_bus_error;
  action.sa_flags = SA_NODEFER;
  ::sigaction(SIGBUS, &action, nullptr);
}

// True if reading (or writing) one byte raised SIGBUS. catch_bus_errors() came before. The guardian
// replaces mappings under such accesses by intent, which ThreadSanitizer takes for a race.
__attribute__((no_sanitize("thread"))) inline bool access_raises_bus_error(char* address,
                                                                           bool write) {
  if (sigsetjmp(detail::bus_error_return, 1) != 0) {
    detail::expecting = 0;
    return true;
  }
  detail::expecting = 1;
  auto* byte = static_cast<volatile char*>(address);
  if (write) {
    *byte = 1;
  } else {
    static_cast<void>(*byte);
  }
  detail::expecting = 0;
  return false;
}

}  // namespace gob::test
