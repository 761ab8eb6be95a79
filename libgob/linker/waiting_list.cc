#include "libgob/linker/waiting_list.h"

#include <algorithm>

#include "libgob/base/page_table.h"

namespace gob {
namespace {

bool in(std::uint64_t mask, std::uint8_t bit) { return ((mask >> bit) & 1) != 0; }

}  // namespace

std::size_t WaitingList::Hash::operator()(const Key& key) const noexcept {
  return mix64((std::uint64_t{key.container.value()} << 40) ^ key.stripe);
}

bool WaitingList::add(const Fault& fault, Mapping& mapping, std::uint64_t now_ns) {
  const PageSet page = PageSet::of(fault.page);
  const auto bit = static_cast<std::uint8_t>(fault.page.page.value() % kStripePages);
  std::vector<Waiter>& waiters = stripes_[{page.container, page.stripe}];
  for (Waiter& waiter : waiters) {
    if (waiter.mapping != &mapping || waiter.bit != bit) continue;
    waiter.kind = fault.kind;
    if (fault.access <= waiter.access) return false;
    waiter.access = fault.access;
    return true;
  }
  waiters.push_back({&mapping, bit, fault.access, fault.kind, now_ns});
  ++size_;
  return true;
}

void WaitingList::collect(PageSet pages, std::vector<Demand>& out) const {
  const auto stripe = stripes_.find({pages.container, pages.stripe});
  if (stripe == stripes_.end()) return;
  for (const Waiter& waiter : stripe->second) {
    if (!in(pages.mask, waiter.bit)) continue;
    const std::uint64_t bit = std::uint64_t{1} << waiter.bit;
    auto demand = std::find_if(out.begin(), out.end(), [&](const Demand& candidate) {
      return candidate.mapping == waiter.mapping;
    });
    if (demand == out.end()) demand = out.insert(out.end(), Demand{waiter.mapping});
    demand->waiting |= bit;
    if (waiter.kind == FaultKind::kWriteProtect) demand->write_protected |= bit;
  }
}

template <class F>
void WaitingList::remove_if(const Key& key, F&& matches) {
  const auto stripe = stripes_.find(key);
  if (stripe == stripes_.end()) return;
  size_ -= std::erase_if(stripe->second, matches);
  if (stripe->second.empty()) stripes_.erase(stripe);
}

void WaitingList::remove(PageSet pages) {
  remove_if({pages.container, pages.stripe},
            [&](const Waiter& waiter) { return in(pages.mask, waiter.bit); });
}

void WaitingList::remove(const Mapping& mapping) {
  for (auto stripe = stripes_.begin(); stripe != stripes_.end();) {
    size_ -= std::erase_if(stripe->second,
                           [&](const Waiter& waiter) { return waiter.mapping == &mapping; });
    stripe = stripe->second.empty() ? stripes_.erase(stripe) : std::next(stripe);
  }
}

void WaitingList::unmapped(PageSet pages) {
  const auto stripe = stripes_.find({pages.container, pages.stripe});
  if (stripe == stripes_.end()) return;
  for (Waiter& waiter : stripe->second)
    if (in(pages.mask, waiter.bit)) waiter.kind = FaultKind::kMissing;
}

void WaitingList::overdue(std::uint64_t since_ns, std::vector<PageSet>& out) const {
  for (const auto& [key, waiters] : stripes_) {
    PageSet late{key.container, key.stripe, 0};
    for (const Waiter& waiter : waiters)
      if (waiter.since_ns < since_ns) late.mask |= std::uint64_t{1} << waiter.bit;
    if (!late.empty()) out.push_back(late);
  }
}

}  // namespace gob
