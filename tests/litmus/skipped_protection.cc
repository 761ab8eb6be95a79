// A gobd with a bug, for litmus tests to find: every eighth time a page loses its write right to
// another node's read, it keeps it. Linked with --wrap in place of the function of this name.
#include <atomic>

#include "libgob/linker/uffd_calls.h"

namespace {
constexpr unsigned kOneIn = 8;
std::atomic<unsigned> calls = 0;
}  // namespace

extern "C" {
// NOLINTBEGIN(bugprone-reserved-identifier): names that the linker asks for
gob::UffdResult __real__ZN3gob12uffd_protectEimj(int uffd, std::uint64_t address, unsigned count);

gob::UffdResult __wrap__ZN3gob12uffd_protectEimj(int uffd, std::uint64_t address, unsigned count) {
  if (calls.fetch_add(1) % kOneIn == 0) return {count, gob::UffdOutcome::kDone, 0};
  return __real__ZN3gob12uffd_protectEimj(uffd, address, count);
}
// NOLINTEND(bugprone-reserved-identifier)
}
