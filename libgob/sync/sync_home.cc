#include "libgob/sync/sync_home.h"

#include <algorithm>

#include "libgob/base/page_table.h"

namespace gob {

namespace {

// A hostile program must not fill the home's memory.
constexpr std::size_t kMaxObjects = 1u << 20;
constexpr std::size_t kMaxWaiters = 1u << 16;  // of one object
constexpr std::size_t kMaxOrphans = 4096;      // without anybody who waits for them

// Tells one round of a barrier from others; all participants get the same.
std::uint32_t round_number(const SyncParty& last, std::uint64_t request) {
  return static_cast<std::uint32_t>(mix64((std::uint64_t{last.node.value()} << 48) ^ request)) | 1u;
}

}  // namespace

void SyncHome::answer(const Waiter& waiter, SyncResult result, const Reply& reply) {
  if (waiter.request == 0) return;
  SyncMessage message;
  message.kind = SyncKind::kReply;
  message.result = result;
  message.request = waiter.request;
  message.party = waiter.party;
  reply(waiter.party.node, std::move(message));
}

void SyncHome::handle(const SyncMessage& message, const Reply& reply) {
  switch (message.kind) {
    case SyncKind::kBarrier:
      return on_barrier(message, reply);
    case SyncKind::kLock:
    case SyncKind::kTryLock:
      return on_lock(message, reply);
    case SyncKind::kUnlock:
      return on_unlock(message, reply);
    case SyncKind::kCondWait:
      return on_cond_wait(message, reply);
    case SyncKind::kCondSignal:
    case SyncKind::kCondBroadcast:
      return on_cond_notify(message, reply);
    case SyncKind::kCancel:
      return on_cancel(message, reply);
    case SyncKind::kBarrierLeave:
    case SyncKind::kReply:
    case SyncKind::kHeld:
    case SyncKind::kOrphaned:
    case SyncKind::kRegistered:
    case SyncKind::kMarker:
      return;  // not for a home
  }
}

void SyncHome::restore_held(const std::string& name, const SyncParty& holder) {
  Lock& lock = locks_[name];
  lock.held = true;
  lock.holder = holder;
}

// Of a lock that somebody holds again by now, that one has been told.
void SyncHome::restore_orphan(const std::string& name) {
  Lock& lock = locks_[name];
  if (lock.held) return;
  lock.owner_died = true;
  forget_if_idle(locks_.find(name));
}

std::set<std::string> SyncHome::reset(const std::vector<NodeId>& alive) {
  std::set<std::string> orphans;
  for (const auto& [name, lock] : locks_) {
    const bool holder_gone = lock.held && !std::ranges::binary_search(alive, lock.holder.node);
    if (holder_gone || lock.owner_died) orphans.insert(name);
  }
  barriers_.clear();
  locks_.clear();
  orphans_.clear();
  return orphans;
}

void SyncHome::on_barrier(const SyncMessage& message, const Reply& reply) {
  const Waiter waiter{message.party, message.request};
  if (barriers_.size() >= kMaxObjects && !barriers_.contains(message.name))
    return answer(waiter, SyncResult::kOverload, reply);
  Barrier& barrier = barriers_[message.name];
  if (barrier.arrived.empty()) barrier.count = message.count;
  if (barrier.count != message.count) return answer(waiter, SyncResult::kMismatch, reply);
  if (barrier.arrived.size() >= kMaxWaiters) return answer(waiter, SyncResult::kOverload, reply);
  barrier.arrived.push_back(waiter);
  if (barrier.arrived.size() < barrier.count) return;

  const std::vector<Waiter> all = std::move(barrier.arrived);
  barriers_.erase(message.name);
  std::set<NodeId> nodes;
  for (const Waiter& each : all) nodes.insert(each.party.node);
  for (const Waiter& each : all) {
    SyncMessage opened;
    opened.kind = SyncKind::kReply;
    opened.result = each == waiter ? SyncResult::kOkLast : SyncResult::kOk;
    opened.request = each.request;
    opened.party = each.party;
    opened.count = round_number(waiter.party, waiter.request);
    opened.nodes.assign(nodes.begin(), nodes.end());
    reply(each.party.node, std::move(opened));
  }
}

void SyncHome::on_lock(const SyncMessage& message, const Reply& reply) {
  const Waiter waiter{message.party, message.request};
  if (locks_.size() >= kMaxObjects && !locks_.contains(message.name))
    return answer(waiter, SyncResult::kOverload, reply);
  const auto found = locks_.try_emplace(message.name).first;
  Lock& lock = found->second;
  if (lock.held && lock.holder == message.party)
    return answer(waiter, SyncResult::kDeadlock, reply);
  if (lock.held && message.kind == SyncKind::kTryLock)
    return answer(waiter, SyncResult::kBusy, reply);
  if (lock.queue.size() >= kMaxWaiters) return answer(waiter, SyncResult::kOverload, reply);
  lock.queue.push_back({waiter, false, false});
  if (!lock.held) grant_next(found, reply);
}

// To the one that waited longest.
void SyncHome::grant_next(Locks::iterator found, const Reply& reply) {
  Lock& lock = found->second;
  lock.held = false;
  if (lock.queue.empty()) return forget_if_idle(found);
  const LockWaiter next = lock.queue.front();
  lock.queue.pop_front();
  lock.held = true;
  lock.holder = next.waiter.party;
  // A death weighs more than a time-out: whoever holds the lock has been told of it.
  const SyncResult result = lock.owner_died  ? SyncResult::kOkOwnerDied
                            : next.timed_out ? SyncResult::kTimedOut
                                             : SyncResult::kOk;
  lock.owner_died = false;
  answer(next.waiter, result, reply);
}

void SyncHome::on_unlock(const SyncMessage& message, const Reply& reply) {
  const Waiter waiter{message.party, message.request};
  const auto found = locks_.find(message.name);
  if (found == locks_.end() || !found->second.held || found->second.holder != message.party)
    return answer(waiter, SyncResult::kNotHeld, reply);
  if (message.died) found->second.owner_died = true;
  answer(waiter, SyncResult::kOk, reply);
  grant_next(found, reply);
}

void SyncHome::on_cond_wait(const SyncMessage& message, const Reply& reply) {
  const Waiter waiter{message.party, message.request};
  const auto found = locks_.find(message.lock);
  if (found == locks_.end() || !found->second.held || found->second.holder != message.party)
    return answer(waiter, SyncResult::kNotHeld, reply);
  Lock& lock = found->second;
  // With no room it is woken at once: a wake-up too many, but it ends with the lock held.
  if (lock.conds.size() >= kMaxWaiters)
    lock.queue.push_back({waiter, true, false});
  else
    lock.conds.push_back({message.name, waiter});
  grant_next(found, reply);
}

void SyncHome::on_cond_notify(const SyncMessage& message, const Reply& reply) {
  answer({message.party, message.request}, SyncResult::kOk, reply);
  const auto found = locks_.find(message.lock);
  if (found == locks_.end()) return;
  Lock& lock = found->second;
  for (auto waiting = lock.conds.begin(); waiting != lock.conds.end();) {
    if (waiting->cond != message.name) {
      ++waiting;
      continue;
    }
    lock.queue.push_back({waiting->waiter, true, false});
    waiting = lock.conds.erase(waiting);
    if (message.kind == SyncKind::kCondSignal) break;
  }
  if (!lock.held) grant_next(found, reply);
}

// True if the request waited in a barrier. One that goes because its time is up leaves the others
// to wait; one that goes because somebody died takes them along, for they would wait in vain.
bool SyncHome::cancel_barrier(const SyncMessage& message, const Reply& reply) {
  const auto found = barriers_.find(message.name);
  if (found == barriers_.end()) return false;
  auto& arrived = found->second.arrived;
  const auto waiting = std::ranges::find_if(arrived, [&](const Waiter& waiter) {
    return waiter.request == message.request && waiter.party.node == message.party.node;
  });
  if (waiting == arrived.end()) return false;
  if (message.died) {
    const std::vector<Waiter> all = std::move(arrived);
    barriers_.erase(found);
    for (const Waiter& each : all) answer(each, SyncResult::kBroken, reply);
    return true;
  }
  answer(*waiting, SyncResult::kTimedOut, reply);
  arrived.erase(waiting);
  if (arrived.empty()) barriers_.erase(found);
  return true;
}

// What was granted meanwhile has its reply on the way: nothing to do.
void SyncHome::on_cancel(const SyncMessage& message, const Reply& reply) {
  if (cancel_barrier(message, reply)) return;
  const auto found = locks_.find(message.lock);
  if (found == locks_.end()) return;
  Lock& lock = found->second;
  const auto is_it = [&](const Waiter& waiter) {
    return waiter.request == message.request && waiter.party.node == message.party.node;
  };
  const auto queued =
      std::ranges::find_if(lock.queue, [&](const LockWaiter& each) { return is_it(each.waiter); });
  if (queued != lock.queue.end()) {
    if (queued->after_wait && !message.died) {
      queued->timed_out = true;  // a condition wait ends with the lock held
      return;
    }
    answer(queued->waiter, SyncResult::kTimedOut, reply);
    lock.queue.erase(queued);
    return forget_if_idle(found);
  }
  const auto waiting =
      std::ranges::find_if(lock.conds, [&](const CondWaiter& each) { return is_it(each.waiter); });
  if (waiting == lock.conds.end()) return;
  const Waiter waiter = waiting->waiter;
  lock.conds.erase(waiting);
  if (message.died) {
    answer(waiter, SyncResult::kBroken, reply);
    return forget_if_idle(found);
  }
  lock.queue.push_back({waiter, true, true});
  if (!lock.held) grant_next(found, reply);
}

// A lock whose holder died is remembered for its next holder, but not without bound.
void SyncHome::forget_if_idle(Locks::iterator found) {
  if (!found->second.idle()) return;
  if (!found->second.owner_died) {
    locks_.erase(found);
    return;
  }
  orphans_.push_back(found->first);
  if (orphans_.size() <= kMaxOrphans) return;
  const auto oldest = locks_.find(orphans_.front());
  orphans_.pop_front();
  if (oldest != locks_.end() && oldest->second.idle()) locks_.erase(oldest);
}

}  // namespace gob
