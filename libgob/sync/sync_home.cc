#include "libgob/sync/sync_home.h"

#include <algorithm>

namespace gob {

namespace {
// A hostile program must not fill the home's memory.
constexpr std::size_t kMaxObjects = 1u << 20;
constexpr std::size_t kMaxWaiters = 1u << 16;  // of one object
}  // namespace

void SyncHome::answer(const Waiter& waiter, SyncResult result, const Reply& reply,
                      std::vector<NodeId> nodes) {
  SyncMessage message;
  message.kind = SyncKind::kReply;
  message.result = result;
  message.request = waiter.request;
  message.party = waiter.party;
  message.nodes = std::move(nodes);
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
      return break_barrier(message.name, reply);
    case SyncKind::kHeld: {
      Lock& lock = locks_[message.name];
      lock.held = true;
      lock.holder = message.party;
      return;
    }
    case SyncKind::kOrphaned: {
      Lock& lock = locks_[message.name];
      lock.owner_died = true;
      if (!lock.held) grant_next(message.name, lock, reply);
      return;
    }
    case SyncKind::kReply:
    case SyncKind::kRegistered:
      return;  // not for a home
  }
}

void SyncHome::reset(const std::vector<NodeId>& alive, std::vector<std::string>& orphans) {
  for (const auto& [name, lock] : locks_) {
    const bool holder_gone = lock.held && !std::ranges::binary_search(alive, lock.holder.node);
    if (holder_gone || lock.owner_died) orphans.push_back(name);
  }
  barriers_.clear();
  locks_.clear();
}

void SyncHome::on_barrier(const SyncMessage& message, const Reply& reply) {
  const Waiter waiter{message.party, message.request};
  if (barriers_.size() >= kMaxObjects && !barriers_.contains(message.name))
    return answer(waiter, SyncResult::kOverload, reply);
  Barrier& barrier = barriers_[message.name];
  if (barrier.arrived.empty()) barrier.count = message.count;
  if (barrier.count != message.count) return answer(waiter, SyncResult::kMismatch, reply);
  barrier.arrived.push_back(waiter);
  if (barrier.arrived.size() < barrier.count) return;

  const std::vector<Waiter> all = std::move(barrier.arrived);
  barriers_.erase(message.name);
  std::set<NodeId> nodes;
  for (const Waiter& each : all) nodes.insert(each.party.node);
  for (const Waiter& each : all)
    answer(each, each == waiter ? SyncResult::kOkLast : SyncResult::kOk, reply,
           {nodes.begin(), nodes.end()});
}

void SyncHome::break_barrier(const std::string& name, const Reply& reply) {
  const auto found = barriers_.find(name);
  if (found == barriers_.end()) return;
  const std::vector<Waiter> all = std::move(found->second.arrived);
  barriers_.erase(found);
  for (const Waiter& each : all) answer(each, SyncResult::kBroken, reply);
}

void SyncHome::on_lock(const SyncMessage& message, const Reply& reply) {
  const Waiter waiter{message.party, message.request};
  if (locks_.size() >= kMaxObjects && !locks_.contains(message.name))
    return answer(waiter, SyncResult::kOverload, reply);
  Lock& lock = locks_[message.name];
  if (lock.held && lock.holder == message.party)
    return answer(waiter, SyncResult::kDeadlock, reply);
  if (lock.held && message.kind == SyncKind::kTryLock)
    return answer(waiter, SyncResult::kBusy, reply);
  if (lock.queue.size() >= kMaxWaiters) return answer(waiter, SyncResult::kOverload, reply);
  lock.queue.push_back({waiter, false});
  if (!lock.held) grant_next(message.name, lock, reply);
}

// To the one that waited longest.
void SyncHome::grant_next(const std::string& name, Lock& lock, const Reply& reply) {
  lock.held = false;
  if (lock.queue.empty()) return forget_if_idle(name);
  const LockWaiter next = lock.queue.front();
  lock.queue.pop_front();
  lock.held = true;
  lock.holder = next.waiter.party;
  const SyncResult granted = lock.owner_died ? SyncResult::kOkOwnerDied : SyncResult::kOk;
  if (!next.timed_out) lock.owner_died = false;
  answer(next.waiter, next.timed_out ? SyncResult::kTimedOut : granted, reply);
}

void SyncHome::on_unlock(const SyncMessage& message, const Reply& reply) {
  const Waiter waiter{message.party, message.request};
  const auto found = locks_.find(message.name);
  if (found == locks_.end() || !found->second.held || found->second.holder != message.party)
    return answer(waiter, SyncResult::kNotHeld, reply);
  if (message.died) found->second.owner_died = true;
  answer(waiter, SyncResult::kOk, reply);
  grant_next(message.name, found->second, reply);
}

void SyncHome::on_cond_wait(const SyncMessage& message, const Reply& reply) {
  const Waiter waiter{message.party, message.request};
  const auto found = locks_.find(message.lock);
  if (found == locks_.end() || !found->second.held || found->second.holder != message.party)
    return answer(waiter, SyncResult::kNotHeld, reply);
  Lock& lock = found->second;
  if (lock.conds.size() >= kMaxWaiters) return answer(waiter, SyncResult::kOverload, reply);
  lock.conds.push_back({message.name, waiter});
  grant_next(message.lock, lock, reply);
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
    lock.queue.push_back({waiting->waiter, false});
    waiting = lock.conds.erase(waiting);
    if (message.kind == SyncKind::kCondSignal) break;
  }
  if (!lock.held) grant_next(message.lock, lock, reply);
}

// A request waited too long. What was granted meanwhile has its reply on the way: nothing to do.
void SyncHome::on_cancel(const SyncMessage& message, const Reply& reply) {
  const auto is_it = [&](const Waiter& waiter) {
    return waiter.request == message.request && waiter.party.node == message.party.node;
  };
  if (const auto found = barriers_.find(message.name); found != barriers_.end()) {
    auto& arrived = found->second.arrived;
    const auto waiting = std::ranges::find_if(arrived, is_it);
    if (waiting != arrived.end()) {
      answer(*waiting, SyncResult::kTimedOut, reply);
      arrived.erase(waiting);
      if (arrived.empty()) barriers_.erase(found);
      return;
    }
  }
  const auto found = locks_.find(message.lock);
  if (found == locks_.end()) return;
  Lock& lock = found->second;
  const auto queued =
      std::ranges::find_if(lock.queue, [&](const LockWaiter& each) { return is_it(each.waiter); });
  if (queued != lock.queue.end()) {
    if (message.name.empty()) {
      answer(queued->waiter, SyncResult::kTimedOut, reply);
      lock.queue.erase(queued);
    } else {
      queued->timed_out = true;  // a condition wait ends with the lock held
    }
    return forget_if_idle(message.lock);
  }
  const auto waiting =
      std::ranges::find_if(lock.conds, [&](const CondWaiter& each) { return is_it(each.waiter); });
  if (waiting == lock.conds.end()) return;
  const Waiter waiter = waiting->waiter;
  lock.conds.erase(waiting);
  if (message.died) {
    answer(waiter, SyncResult::kBroken, reply);
    return forget_if_idle(message.lock);
  }
  lock.queue.push_back({waiter, true});
  if (!lock.held) grant_next(message.lock, lock, reply);
}

void SyncHome::forget_if_idle(const std::string& name) {
  const auto found = locks_.find(name);
  if (found != locks_.end() && found->second.idle()) locks_.erase(found);
}

}  // namespace gob
