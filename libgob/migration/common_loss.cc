#include "libgob/migration/common_loss.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <system_error>
#include <thread>
#include <vector>

#include "libgob/base/ids.h"
#include "libgob/linker/uffd_abi.h"
#include "libgob/linker/uffd_calls.h"
#include "libgob/migration/common_memory.h"
#include "libgob/migration/visit.h"

namespace gob::migration {
namespace {

// Who is asked to stop runs no step of its program any more, so that nothing is lost by waiting: on
// a busy machine, or when it waits for a disk.
constexpr std::chrono::seconds kStops{60};
constexpr std::size_t kAtOnce = 3;  // each needs some descriptors
constexpr std::chrono::milliseconds kLook{10};
constexpr unsigned kPagesAtOnce = 1U << 16;

Status take_away(pid_t pid) {
  std::vector<NamedArea> areas = container_areas(pid);
  for (NamedArea& place : places_of(pid)) areas.push_back(std::move(place));
  if (areas.empty()) return {};
  const UniqueFd empty(::memfd_create("gob-lost", MFD_CLOEXEC));
  if (!empty) return system_error("creating an empty file");
  auto visit = Visit::begin(pid, kStops);
  if (!visit) return visit.error();
  const auto there = visit->give({empty.get()});
  if (!there) return there.error();
  for (auto& [name, area] : areas) {
    area.offset = 0;
    if (Status taken = visit->map(area, there->front()); !taken) return taken;
  }
  return {};
}

}  // namespace

void lose_common(pid_t pid) {
  const auto end = std::chrono::steady_clock::now() + kStops;
  Status taken = take_away(pid);
  // Somebody else has stopped it: the guard of another keeper, which takes the memory away, too.
  while (!taken && taken.error().errno_value == EPERM && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(kLook);
    taken = take_away(pid);
  }
  if (!taken && taken.error().code != ErrorCode::kLost) ::kill(pid, SIGKILL);
}

void lose_common(const std::set<pid_t>& pids, int over, const std::function<void()>& answer) {
  if (pids.empty()) return;
  const std::vector<pid_t> all(pids.begin(), pids.end());
  std::atomic<std::size_t> next{0}, left{all.size()};
  const auto work = [&] {
    for (std::size_t i = next++; i < all.size(); i = next++) {
      lose_common(all[i]);
      if (--left == 0) ::eventfd_write(over, 1);
    }
  };
  std::vector<std::jthread> threads;
  try {
    while (threads.size() < std::min(kAtOnce, all.size())) threads.emplace_back(work);
  } catch (const std::system_error&) {
    work();  // there are too many threads on this machine
  }
  eventfd_t ended = 0;
  while (::eventfd_read(over, &ended) != 0) answer();
}

bool refuse_fault(int uffd, const uffd_msg& message, Gobd gobd) {
  const std::uint64_t at = message.arg.pagefault.address & ~(std::uint64_t{kPageSize} - 1);
  const bool protects = (message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP) != 0;
  if (protects && gobd != Gobd::kGone) return false;
  // Also what is remembered of a page that is missing; if gobd mapped it just now, it would not
  // know who writes to it.
  if (gobd != Gobd::kServes) uffd_unprotect(uffd, at, 1, false);
  if (!protects && uffd_poison(uffd, at, 1).outcome == UffdOutcome::kDone) return true;
  if (gobd == Gobd::kServes) return false;
  uffd_wake(uffd, at, 1);
  return true;
}

void refuse_missing(int uffd, std::uint64_t address, std::uint64_t bytes) {
  const std::uint64_t pages = bytes / kPageSize;
  for (std::uint64_t page = 0; page < pages;) {
    const auto count = static_cast<unsigned>(std::min<std::uint64_t>(pages - page, kPagesAtOnce));
    const UffdResult refused = uffd_poison(uffd, address + page * kPageSize, count);
    page += refused.done;
    if (refused.outcome == UffdOutcome::kExists)
      ++page;
    else if (refused.outcome != UffdOutcome::kDone)
      return;
  }
}

}  // namespace gob::migration
