#include "libgob/runtime/held_messages.h"

#include <utility>

namespace gob {

namespace {

// Takes the pages of `wait` and their bytes out of `held`: what is left may go.
HeldMessages::Held split(HeldMessages::Held& held, std::uint64_t wait) {
  HeldMessages::Held now{held.to, held.message, {}};
  HeldMessages::Held later{held.to, held.message, {}};
  now.message.pages.mask &= ~wait;
  later.message.pages.mask &= wait;
  const std::byte* next = held.payload.data();
  if (!held.payload.empty())
    for_each_page(held.message.pages, [&](PageId page) {
      HeldMessages::Held& part = (PageSet::of(page).mask & wait) != 0 ? later : now;
      part.payload.insert(part.payload.end(), next, next + kPageSize);
      next += kPageSize;
    });
  held = std::move(now);
  return later;
}

}  // namespace

bool HeldMessages::speaks_of_all(const Message& message) {
  return message.type == MessageType::kMarker || message.type == MessageType::kReportEnd ||
         message.type == MessageType::kSyncEnd;
}

bool HeldMessages::passes(const Message& message) const {
  if (held_.empty()) return true;
  return !speaks_of_all(message) && of_all_ == 0 && !stripes_.contains(stripe_of(message));
}

bool HeldMessages::add(Held held) {
  std::size_t& bytes = bytes_[held.to];
  if (bytes + bytes_of(held) > most_bytes_) return false;
  bytes += bytes_of(held);
  if (speaks_of_all(held.message)) ++of_all_;
  stripes_[stripe_of(held.message)].insert(next_);
  held_.emplace(next_++, std::move(held));
  return true;
}

void HeldMessages::erase(Iterator it) {
  bytes_[it->second.to] -= bytes_of(it->second);
  if (speaks_of_all(it->second.message)) --of_all_;
  const auto stripe = stripes_.find(stripe_of(it->second.message));
  stripe->second.erase(it->first);
  if (stripe->second.empty()) stripes_.erase(stripe);
  held_.erase(it);
}

void HeldMessages::release(const PageSet& changed, const Waits& waits, const Send& send) {
  if (held_.empty()) return;
  std::map<NodeId, Before> before;
  if (of_all_ != 0) {
    // Rare: a view changes.
    for (auto it = held_.begin(); it != held_.end();) {
      const auto next = std::next(it);
      consider(it, before[it->second.to], waits, send);
      it = next;
    }
    return;
  }
  const auto stripe = stripes_.find({changed.container, changed.stripe});
  if (stripe == stripes_.end()) return;
  const std::vector<std::uint64_t> order(stripe->second.begin(), stripe->second.end());
  for (const std::uint64_t number : order) {
    const auto it = held_.find(number);
    consider(it, before[it->second.to], waits, send);
  }
}

void HeldMessages::forget(NodeId to) {
  for (auto it = held_.begin(); it != held_.end();) {
    const auto next = std::next(it);
    if (it->second.to == to) erase(it);
    it = next;
  }
}

void HeldMessages::consider(Iterator it, Before& before, const Waits& waits, const Send& send) {
  Held& held = it->second;
  const bool of_all = speaks_of_all(held.message);
  std::uint64_t& earlier = before.pages[stripe_of(held.message)];
  const std::uint64_t mask = held.message.pages.mask;
  const std::uint64_t wait = (of_all ? 0 : waits(held.message.pages)) | (earlier & mask);
  const bool whole = before.of_all || (of_all && before.any);
  if (!whole && (of_all || wait == 0)) {
    std::vector<std::byte> payload = std::move(held.payload);
    bytes_[held.to] -= payload.size();
    Held now{held.to, held.message, std::move(payload)};
    erase(it);
    send(now);
    return;
  }
  before.any = true;
  before.of_all |= of_all;
  earlier |= whole ? mask : wait;
  if (whole || wait == mask) return;
  const std::size_t before_split = bytes_of(held);
  Held later = split(held, wait);
  std::swap(held, later);
  bytes_[held.to] -= before_split - bytes_of(held);
  send(later);
}

}  // namespace gob
