#include "gobbench/simulate/program_memory.h"

#include <algorithm>
#include <bit>

namespace gob::bench {

bool ProgramMemory::allows(PageId page, Access access) const {
  return allowed_from(page, 1, access) == 1;
}

std::uint32_t ProgramMemory::allowed_from(PageId first, std::uint32_t count, Access access) const {
  std::uint32_t allowed = 0;
  while (allowed < count) {
    const std::uint64_t page = first.page.value() + allowed;
    const PageSet one = PageSet::of({first.container, PageIndex{page}});
    const Rights* rights = rights_.find(stripe_key(one));
    const auto place = static_cast<unsigned>(page % kStripePages);
    const std::uint64_t here = rights == nullptr ? 0 : rights->of(access) >> place;
    const auto run = static_cast<std::uint32_t>(std::countr_one(here));
    allowed += std::min(run, kStripePages - place);
    if (run < kStripePages - place) break;
  }
  return std::min(allowed, count);
}

void ProgramMemory::expect(PageSet pages, std::uint64_t unmapped) {
  if (pages.empty()) return;
  expected_[next_expected_] = {pages, unmapped};
  next_expected_ = (next_expected_ + 1) % kExpected;
}

// The pages to be mapped with `pages` although nobody waits for them; they are forgotten.
std::uint64_t ProgramMemory::take_expected(PageSet pages) {
  std::uint64_t ahead = 0;
  for (Expected& entry : expected_) {
    if (entry.pages.container != pages.container || entry.pages.stripe != pages.stripe) continue;
    const std::uint64_t arrived = entry.pages.mask & pages.mask;
    ahead |= arrived & ~entry.unmapped;
    entry.pages.mask &= ~arrived;
  }
  return ahead;
}

SimTime ProgramMemory::grant(PageSet pages, Access access, bool stores) {
  if (access == Access::kNone)
    return stores ? cost_of_runs(pages, timing_->map_us, timing_->map_page_us) : 0;
  const bool same_stripe = waiting_.container == pages.container && waiting_.stripe == pages.stripe;
  const std::uint64_t waited = same_stripe ? waiting_.mask & pages.mask : 0;
  const std::uint64_t mapped = (waited | take_expected(pages)) & pages.mask;
  if (mapped != 0) {
    Rights& rights = rights_[stripe_key(pages)];
    rights.readable |= mapped;
    if (access == Access::kWrite) rights.writable |= mapped;
  }
  if (waited != 0) waiting_.mask &= ~waited;
  SimTime cost = cost_of_runs(pages.with(mapped), timing_->map_us, timing_->map_page_us);
  if (stores)
    cost += cost_of_runs(pages.with(pages.mask & ~mapped), timing_->map_us, timing_->map_page_us);
  return cost;
}

SimTime ProgramMemory::protect(PageSet pages) {
  Rights* rights = rights_.find(stripe_key(pages));
  const std::uint64_t writable = rights == nullptr ? 0 : rights->writable & pages.mask;
  if (writable != 0) rights->writable &= ~writable;
  return cost_of_runs(pages.with(writable), timing_->protect_us, timing_->protect_page_us);
}

SimTime ProgramMemory::unmap(PageSet pages) {
  if (Rights* rights = rights_.find(stripe_key(pages))) {
    rights->readable &= ~pages.mask;
    rights->writable &= ~pages.mask;
  }
  return cost_of_runs(pages, timing_->unmap_us, timing_->unmap_page_us);
}

SimTime ProgramMemory::load(PageSet pages) const {
  return cost_of_runs(pages, timing_->load_us, timing_->load_page_us);
}

SimTime ProgramMemory::cost_of_runs(PageSet pages, double first_us, double next_us) const {
  double cost_us = 0;
  for_each_run(pages,
               [&](PageIndex, unsigned count) { cost_us += first_us + (count - 1) * next_us; });
  return to_ns(cost_us);
}

}  // namespace gob::bench
