#include "libgob/sync/sync_service.h"

#include <algorithm>

namespace gob {

namespace {

constexpr std::size_t kMaxEarly = 1u << 16;

// Stable across nodes and builds, unlike std::hash (FNV-1a).
std::uint64_t hash_of(const std::string& name) {
  std::uint64_t hash = 0xcbf29ce484222325ull;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return mix64(hash);
}

bool is_condition(SyncKind kind) {
  return kind == SyncKind::kCondWait || kind == SyncKind::kCondSignal ||
         kind == SyncKind::kCondBroadcast;
}

bool granted(SyncResult result) {
  return result == SyncResult::kOk || result == SyncResult::kOkOwnerDied;
}

}  // namespace

// A condition lives with its lock, a cancellation goes where the request went.
NodeId SyncService::home_of(const SyncMessage& message) const {
  const bool by_lock =
      is_condition(message.kind) || (message.kind == SyncKind::kCancel && !message.lock.empty());
  return view_.members[hash_of(by_lock ? message.lock : message.name) % view_.members.size()];
}

void SyncService::send(NodeId to, SyncMessage message, Out& out) {
  message.epoch = view_.epoch;
  if (to != self_) {
    out.messages.emplace_back(to, std::move(message));
    return;
  }
  deliver(self_, message, out);
}

void SyncService::send_home(const SyncMessage& message, Out& out) {
  if (!view_.members.empty()) send(home_of(message), message, out);
}

std::uint64_t SyncService::request(const Request& request, Out& out) {
  const std::uint64_t id = next_request_++;
  Outstanding& outstanding = outstanding_[id];
  outstanding.deadline_ms = request.deadline_ms;
  SyncMessage& message = outstanding.message;
  message.kind = request.kind;
  message.request = id;
  message.party = {self_, request.client, request.holder};
  message.count = request.count;
  message.name = request.name;
  message.lock = request.lock;
  clients_.try_emplace(request.client);
  send_home(SyncMessage(message), out);
  return id;
}

void SyncService::client_gone(std::uint64_t client, Out& out) {
  for (auto& [id, outstanding] : outstanding_) {
    if (outstanding.message.party.client != client || outstanding.abandoned) continue;
    outstanding.abandoned = true;
    outstanding.deadline_ms.reset();
  }
  std::vector<Outstanding> withdrawn;
  for (const auto& [id, outstanding] : outstanding_)
    if (outstanding.message.party.client == client) withdrawn.push_back(outstanding);
  for (const Outstanding& each : withdrawn) cancel(each, true, out);

  const auto found = clients_.find(client);
  if (found == clients_.end()) return;
  const Client gone = std::move(found->second);
  clients_.erase(found);
  for (const auto& [name, holder] : gone.held) {
    SyncMessage unlock;
    unlock.kind = SyncKind::kUnlock;
    unlock.name = name;
    unlock.party = {self_, client, holder};
    unlock.died = true;
    send_home(unlock, out);
  }
  for (const auto& [name, nodes] : gone.barriers) {
    SyncMessage leave;
    leave.kind = SyncKind::kBarrierLeave;
    leave.name = name;
    leave.party = {self_, client, 0};
    send_home(leave, out);
  }
}

void SyncService::cancel(const Outstanding& outstanding, bool died, Out& out) {
  SyncMessage message = outstanding.message;
  const SyncKind kind = message.kind;
  message.kind = SyncKind::kCancel;
  message.died = died;
  if (kind == SyncKind::kLock || kind == SyncKind::kTryLock || kind == SyncKind::kUnlock) {
    message.lock = std::move(message.name);
    message.name.clear();
  }
  send_home(message, out);
}

void SyncService::deliver(NodeId from, const SyncMessage& message, Out& out) {
  if (message.epoch > view_.epoch) {
    if (early_.size() < kMaxEarly) early_.emplace_back(from, message);
    return;
  }
  if (message.epoch < view_.epoch || !view_.contains(from)) return;
  if (message.kind == SyncKind::kReply) return on_reply(message, out);
  if (message.kind == SyncKind::kRegistered) {
    registered_.insert(from);
    return finish_registration(out);
  }
  if (message.party.node != from && message.kind != SyncKind::kOrphaned) return;  // not its to ask
  const bool registers = message.kind == SyncKind::kHeld || message.kind == SyncKind::kOrphaned;
  if (!serving_ && !registers) {
    waiting_.push_back(message);
    return;
  }
  handle_at_home(message, out);
}

void SyncService::handle_at_home(const SyncMessage& message, Out& out) {
  home_.handle(message, [&](NodeId to, SyncMessage reply) { send(to, std::move(reply), out); });
}

void SyncService::on_reply(const SyncMessage& message, Out& out) {
  const auto found = outstanding_.find(message.request);
  if (found == outstanding_.end()) return;
  const Outstanding asked = std::move(found->second);
  outstanding_.erase(found);
  if (!asked.abandoned) {
    settle(asked.message, message.result, message);
    out.answers.push_back({message.request, message.result});
    return;
  }
  // Granted to a program that is gone: give it back at once.
  const SyncKind kind = asked.message.kind;
  const bool holds_lock =
      ((kind == SyncKind::kLock || kind == SyncKind::kTryLock) && granted(message.result)) ||
      (kind == SyncKind::kCondWait &&
       (granted(message.result) || message.result == SyncResult::kTimedOut));
  if (!holds_lock) return;
  SyncMessage unlock;
  unlock.kind = SyncKind::kUnlock;
  unlock.name = kind == SyncKind::kCondWait ? asked.message.lock : asked.message.name;
  unlock.party = asked.message.party;
  unlock.died = true;
  send_home(unlock, out);
}

// What the client holds, and with whom it meets, after an answer.
void SyncService::settle(const SyncMessage& asked, SyncResult result, const SyncMessage& reply) {
  const auto found = clients_.find(asked.party.client);
  if (found == clients_.end()) return;
  Client& client = found->second;
  switch (asked.kind) {
    case SyncKind::kLock:
    case SyncKind::kTryLock:
      if (granted(result)) client.held.emplace(asked.name, asked.party.holder);
      return;
    case SyncKind::kUnlock:
      client.held.erase({asked.name, asked.party.holder});
      return;
    case SyncKind::kBarrier:
      if (result == SyncResult::kOk || result == SyncResult::kOkLast)
        client.barriers[asked.name] = reply.nodes;
      return;
    default:
      return;  // a condition wait ends with the lock that it began with
  }
}

// Whether a barrier can never be completed, as far as this node can know.
bool SyncService::breaks(const SyncMessage& waiting, const std::vector<NodeId>& dead) const {
  const auto client = clients_.find(waiting.party.client);
  if (client == clients_.end()) return true;
  const auto last = client->second.barriers.find(waiting.name);
  if (last == client->second.barriers.end()) return true;  // first round: nobody knows who comes
  return std::ranges::any_of(last->second,
                             [&](NodeId node) { return std::ranges::binary_search(dead, node); });
}

void SyncService::install_view(const View& view, Out& out) {
  if (view.epoch <= view_.epoch) return;
  const std::vector<NodeId> before = view_.members;
  view_ = view;
  serving_ = false;
  registered_.clear();
  waiting_.clear();
  std::vector<std::string> orphans;
  home_.reset(view_.members, orphans);
  if (!view_.contains(self_)) {
    // Nobody will answer any more.
    for (const auto& [id, outstanding] : outstanding_)
      if (!outstanding.abandoned) out.answers.push_back({id, SyncResult::kBroken});
    outstanding_.clear();
    return;
  }
  std::vector<NodeId> dead;
  for (const Loss& loss : view_.losses)
    if (loss.epoch == view_.epoch)
      for (NodeId node : loss.dead)
        if (std::ranges::binary_search(before, node)) dead.push_back(node);
  std::ranges::sort(dead);

  for (auto it = outstanding_.begin(); it != outstanding_.end();) {
    const Outstanding& each = it->second;
    const bool broken =
        !dead.empty() && each.message.kind == SyncKind::kBarrier && breaks(each.message, dead);
    if (broken && !each.abandoned) out.answers.push_back({it->first, SyncResult::kBroken});
    if (broken || each.abandoned)
      it = outstanding_.erase(it);
    else
      ++it;
  }
  for (auto& [id, outstanding] : outstanding_)
    if (outstanding.message.kind == SyncKind::kCondWait) wake_up(outstanding.message);
  for (const std::string& name : orphans) {
    SyncMessage orphan;
    orphan.kind = SyncKind::kOrphaned;
    orphan.name = name;
    orphan.party.node = self_;
    send_home(orphan, out);
  }
  for (const auto& [id, client] : clients_) {
    for (const auto& [name, holder] : client.held) {
      SyncMessage held;
      held.kind = SyncKind::kHeld;
      held.name = name;
      held.party = {self_, id, holder};
      send_home(held, out);
    }
  }
  for (NodeId node : view_.members) {
    SyncMessage done;
    done.kind = SyncKind::kRegistered;
    done.party.node = self_;
    send(node, done, out);
  }
  std::vector<SyncMessage> again;  // in the order asked
  for (const auto& [id, outstanding] : outstanding_) again.push_back(outstanding.message);
  for (const SyncMessage& message : again) send_home(message, out);
  const auto early = std::move(early_);
  early_.clear();
  for (const auto& [from, message] : early) deliver(from, message, out);
}

// A condition wait whose home is gone goes on as a wish for the lock that it released: a wake-up
// may have been lost, and one too many is never wrong.
void SyncService::wake_up(SyncMessage& waiting) {
  const auto client = clients_.find(waiting.party.client);
  if (client != clients_.end()) client->second.held.erase({waiting.lock, waiting.party.holder});
  waiting.kind = SyncKind::kLock;
  waiting.name = std::move(waiting.lock);
  waiting.lock.clear();
}

void SyncService::finish_registration(Out& out) {
  const auto has_come = [&](NodeId node) { return registered_.contains(node); };
  if (serving_ || !std::ranges::all_of(view_.members, has_come)) return;
  serving_ = true;
  const auto waiting = std::move(waiting_);
  waiting_.clear();
  for (const SyncMessage& message : waiting) handle_at_home(message, out);
}

void SyncService::tick(std::uint64_t now_ms, Out& out) {
  std::vector<Outstanding> late;
  for (auto& [id, outstanding] : outstanding_) {
    if (!outstanding.deadline_ms || *outstanding.deadline_ms > now_ms) continue;
    outstanding.deadline_ms.reset();  // the home answers now, one way or the other
    late.push_back(outstanding);
  }
  for (const Outstanding& each : late) {
    if (!view_.members.empty()) {
      cancel(each, false, out);
      continue;
    }
    outstanding_.erase(each.message.request);
    out.answers.push_back({each.message.request, SyncResult::kTimedOut});
  }
}

std::optional<std::uint64_t> SyncService::next_deadline_ms() const {
  std::optional<std::uint64_t> next;
  for (const auto& [id, outstanding] : outstanding_)
    if (outstanding.deadline_ms && (!next || *outstanding.deadline_ms < *next))
      next = outstanding.deadline_ms;
  return next;
}

}  // namespace gob
