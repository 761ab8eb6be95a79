#include "tests/litmus/arena.h"

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <new>
#include <system_error>

#include "libgob/runtime/clock.h"

namespace gob::litmus {
namespace {

constexpr std::uint64_t kSpinNs = 20'000;              // shorter than going to sleep and waking up
constexpr timespec kNap{0, 200'000'000};               // between looks at `failed`
constexpr std::uint64_t kLongestLook = 1'000'000'000;  // without being stopped

void sleep_while(std::atomic<std::uint32_t>& word, std::uint32_t value) {
  static_assert(sizeof word == 4 && std::atomic<std::uint32_t>::is_always_lock_free);
  ::syscall(SYS_futex, &word, FUTEX_WAIT, value, &kNap, nullptr, 0);
}

void wake_all(std::atomic<std::uint32_t>& word) {
  ::syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace

bool Rendezvous::meet(std::uint32_t count, std::uint64_t lead_ns,
                      const std::atomic<std::uint32_t>& failed) {
  const std::uint32_t phase = phase_.load();
  if (arrived_.fetch_add(1) + 1 == count) {
    arrived_.store(0);
    start_ns_.store(monotonic_ns() + lead_ns);
    phase_.store(phase + 1);
    wake_all(phase_);
  } else {
    std::uint64_t waited = 0;
    std::uint64_t looked = monotonic_ns();
    while (phase_.load() == phase) {
      // If all programs were stopped for a while, none of them is to blame for it.
      const std::uint64_t now = monotonic_ns();
      waited += std::min(now - looked, kLongestLook);
      looked = now;
      if (failed.load() != 0 || waited > kMeetTimeoutNs) return false;
      if (waited > kSpinNs)
        sleep_while(phase_, phase);
      else
        __builtin_ia32_pause();
    }
  }
  while (monotonic_ns() < start_ns_.load(std::memory_order_relaxed)) __builtin_ia32_pause();
  return failed.load() == 0;
}

void Arena::fail(const std::string& reason) {
  std::uint32_t nobody = 0;
  if (!failed.compare_exchange_strong(nobody, 1)) return;
  reason.copy(why.data(), why.size() - 1);
  failed.store(2);  // `why` is whole
}

std::string Arena::failure() const {
  return failed.load() == 0 ? "" : failed.load() == 1 ? "a program failed" : why.data();
}

ArenaPointer make_arena() {
  void* memory =
      ::mmap(nullptr, sizeof(Arena), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    throw std::system_error(errno, std::generic_category(), "cannot map memory for the programs");
  return ArenaPointer(new (memory) Arena{});
}

void UnmapArena::operator()(Arena* arena) const {
  std::destroy_at(arena);
  ::munmap(arena, sizeof(Arena));
}

}  // namespace gob::litmus
