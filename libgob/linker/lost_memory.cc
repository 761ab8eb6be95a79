#include "libgob/linker/lost_memory.h"

#include <algorithm>
#include <array>
#include <utility>

#include "libgob/linker/uffd_abi.h"
#include "libgob/linker/uffd_calls.h"

namespace gob {
namespace {

constexpr std::uint64_t kAtOnce = 1024;  // pages in a step

}  // namespace

void LostMemory::place(Copy& copy, const Mapping& mapping) {
  copy.first = {mapping.config().container, mapping.config().first};
  copy.address = mapping.config().address;
  copy.pages = mapping.config().pages;
  copy.moved = mapping.moved();
}

void LostMemory::hold(std::shared_ptr<const Mapping> mapping) {
  Copy& copy = copies_.emplace_back();
  place(copy, *mapping);
  copy.mapping = std::move(mapping);
}

void LostMemory::hold(UniqueFd uffd, const Mapping& parent) {
  Copy& copy = copies_.emplace_back();
  place(copy, parent);
  copy.own = std::move(uffd);
}

std::vector<PageId> LostMemory::step() {
  std::vector<PageId> unwanted;
  for (Copy& copy : copies_) answer(copy, unwanted);  // children come behind their parents
  std::uint64_t left = kAtOnce;
  for (std::size_t turns = copies_.size(); turns > 0 && left > 0; --turns) {
    if (refuse_some(copies_.front(), left))
      copies_.splice(copies_.end(), copies_, copies_.begin());
    else
      copies_.pop_front();
  }
  return unwanted;
}

// Faults, for pages that were taken away since they were refused; and children, which would stay
// in fork(2).
void LostMemory::answer(Copy& copy, std::vector<PageId>& unwanted) {
  // The kernel wakes nobody whose page is taken away: they ask anew each time, until it has been.
  for (const std::uint64_t at : std::exchange(copy.writers, {})) uffd_wake(copy.uffd(), at, 1);
  std::array<uffd_msg, 16> batch;
  const std::int64_t got = uffd_read(copy.uffd(), batch);
  for (std::int64_t i = 0; i < got; ++i) {
    const uffd_msg& message = batch[static_cast<std::size_t>(i)];
    if (message.event == UFFD_EVENT_FORK) {
      Copy& child = copies_.emplace_back();
      child.first = copy.first;
      child.address = copy.address;
      child.pages = copy.pages;
      child.moved = copy.moved;
      child.own.reset(static_cast<int>(message.arg.fork.ufd));
    }
    if (message.event == UFFD_EVENT_REMAP) copy.moved = true;
    if (message.event != UFFD_EVENT_PAGEFAULT) continue;
    const std::uint64_t at = message.arg.pagefault.address & ~(std::uint64_t{kPageSize} - 1);
    if ((message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP) != 0) {
      copy.writers.push_back(at);
      const std::uint64_t page = (at - copy.address) / kPageSize;
      if (!copy.moved && at >= copy.address && page < copy.pages)
        unwanted.push_back({copy.first.container, PageIndex{copy.first.page.value() + page}});
      continue;
    }
    uffd_unprotect(copy.uffd(), at, 1, false);  // what was remembered of it
    if (uffd_poison(copy.uffd(), at, 1).outcome != UffdOutcome::kDone)
      uffd_wake(copy.uffd(), at, 1);
  }
}

// False: the program has ended, or has nothing of it any more.
bool LostMemory::refuse_some(Copy& copy, std::uint64_t& left) {
  if (copy.refused) {  // whether the program is still there
    --left;
    return uffd_poison(copy.uffd(), copy.address, 1).outcome != UffdOutcome::kDead;
  }
  while (left > 0 && copy.next < copy.pages) {
    const auto count = static_cast<unsigned>(std::min(copy.pages - copy.next, left));
    const UffdResult result = uffd_poison(copy.uffd(), copy.address + copy.next * kPageSize, count);
    if (result.outcome == UffdOutcome::kDead) return false;
    copy.somewhere = copy.somewhere || result.outcome != UffdOutcome::kNotMapped;
    // A page that is mapped there stays so.
    const std::uint64_t dealt = result.done + (result.outcome == UffdOutcome::kDone ? 0U : 1U);
    copy.next += dealt;
    left -= std::min(left, dealt);
  }
  if (copy.next < copy.pages) return true;
  copy.refused = true;
  uffd_wake(copy.uffd(), copy.address, static_cast<unsigned>(copy.pages));
  return copy.somewhere || copy.moved;
}

}  // namespace gob
