#include "libgob/file/lock_table.h"

#include <algorithm>

namespace gob::file {

namespace {

bool overlap(const LockRange& a, const LockRange& b) {
  return a.first <= b.last && b.first <= a.last;
}

// Side by side or overlapping, without a gap.
bool touch(const LockRange& a, const LockRange& b) {
  if (overlap(a, b)) return true;
  return (a.last != ~std::uint64_t{0} && a.last + 1 == b.first) ||
         (b.last != ~std::uint64_t{0} && b.last + 1 == a.first);
}

}  // namespace

const LockTable::Held* LockTable::in_the_way(const LockOwner& owner, const LockRange& wanted,
                                             const LockOwner* also) const {
  if (wanted.type == LockType::kUnlock) return nullptr;
  for (const Held& held : held_) {
    if (held.owner == owner || held.owner.flock != owner.flock) continue;
    if (also != nullptr && held.owner == *also) continue;
    if (!overlap(held.range, wanted)) continue;
    if (held.range.type == LockType::kWrite || wanted.type == LockType::kWrite) return &held;
  }
  return nullptr;
}

std::optional<LockRange> LockTable::conflict(const LockOwner& owner,
                                             const LockRange& wanted) const {
  const Held* const held = in_the_way(owner, wanted, nullptr);
  return held == nullptr ? std::nullopt : std::optional(held->range);
}

bool LockTable::set(const LockOwner& owner, const LockRange& wanted) {
  if (in_the_way(owner, wanted, nullptr) != nullptr) return false;
  put(owner, wanted);
  return true;
}

void LockTable::put(const LockOwner& owner, const LockRange& wanted) {
  LockRange grown = wanted;
  std::vector<Held> next;
  for (const Held& held : held_) {
    if (held.owner != owner) {
      next.push_back(held);
      continue;
    }
    if (held.range.type == wanted.type && touch(held.range, grown)) {
      grown.first = std::min(grown.first, held.range.first);
      grown.last = std::max(grown.last, held.range.last);
      continue;
    }
    if (!overlap(held.range, wanted)) {
      next.push_back(held);
      continue;
    }
    // What sticks out on either side stays as it is.
    if (held.range.first < wanted.first) {
      Held left = held;
      left.range.last = wanted.first - 1;
      next.push_back(left);
    }
    if (held.range.last > wanted.last) {
      Held right = held;
      right.range.first = wanted.last + 1;
      next.push_back(right);
    }
  }
  if (wanted.type != LockType::kUnlock) next.push_back({owner, grown});
  held_ = std::move(next);
}

void LockTable::drop(const LockOwner& owner) {
  std::erase_if(held_, [&](const Held& held) { return held.owner == owner; });
  std::erase_if(waiters_, [&](const Waiter& waiter) { return waiter.owner == owner; });
  std::erase_if(offers_, [&](const Offer& offer) { return offer.first == owner; });
  for (Offer& offer : offers_)
    if (offer.joined == owner) offer.joined.reset();
}

void LockTable::drop_node(NodeId node) {
  std::erase_if(held_, [&](const Held& held) { return held.owner.node == node; });
  std::erase_if(waiters_, [&](const Waiter& waiter) { return waiter.owner.node == node; });
  std::erase_if(offers_, [&](const Offer& offer) { return offer.first.node == node; });
  for (Offer& offer : offers_)
    if (offer.joined && offer.joined->node == node) offer.joined.reset();
}

std::vector<LockTable::Offer>::iterator LockTable::offer_of(const LockOwner& first) {
  return std::ranges::find(offers_, first, &Offer::first);
}

bool LockTable::offer(const LockOwner& owner, NodeId to) {
  keep(owner);
  if (std::ranges::find(held_, owner, &Held::owner) == held_.end()) return false;
  offers_.push_back({owner, to, std::nullopt});
  return true;
}

bool LockTable::join(const LockOwner& owner, const LockRange& wanted, const LockOwner& first) {
  const auto offer = offer_of(first);
  if (offer == offers_.end() || offer->to != owner.node || owner.flock != first.flock ||
      (offer->joined && *offer->joined != owner) || owner == first)
    return false;
  // What one owner holds of one type side by side is one range.
  const bool whole = std::ranges::any_of(held_, [&](const Held& held) {
    return held.owner == first && held.range.type == wanted.type &&
           held.range.first <= wanted.first && held.range.last >= wanted.last;
  });
  if (!whole || in_the_way(owner, wanted, &first) != nullptr) return false;
  put(owner, wanted);
  offer->joined = owner;
  return true;
}

void LockTable::keep(const LockOwner& first) {
  const auto offer = offer_of(first);
  if (offer == offers_.end()) return;
  const std::optional<LockOwner> joined = offer->joined;
  offers_.erase(offer);
  if (joined) drop(*joined);
}

void LockTable::moved(const LockOwner& first, NodeId to) {
  const auto offer = offer_of(first);
  if (offer != offers_.end() && offer->to == to) drop(first);
}

bool LockTable::cancel(NodeId node, std::uint64_t request) {
  return std::erase_if(waiters_, [&](const Waiter& waiter) {
           return waiter.owner.node == node && waiter.request == request;
         }) != 0;
}

std::optional<LockTable::Waiter> LockTable::take_grantable() {
  for (auto it = waiters_.begin(); it != waiters_.end(); ++it) {
    if (!set(it->owner, it->wanted)) continue;
    const Waiter granted = *it;
    waiters_.erase(it);
    return granted;
  }
  return std::nullopt;
}

std::vector<LockRange> LockTable::held_by(const LockOwner& owner) const {
  std::vector<LockRange> ranges;
  for (const Held& held : held_)
    if (held.owner == owner) ranges.push_back(held.range);
  std::ranges::sort(ranges, {}, &LockRange::first);
  return ranges;
}

}  // namespace gob::file
