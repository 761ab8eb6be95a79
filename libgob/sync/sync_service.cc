// Requests of programs, and the answers to them. sync_view_change.cc has the rest.
#include "libgob/sync/sync_service.h"

#include <algorithm>

namespace gob {

namespace {

constexpr std::size_t kMaxEarly = 1u << 20;
constexpr std::size_t kMaxOutstanding = 1u << 16;
constexpr std::size_t kMaxHeld = 4096;    // locks of one client
constexpr std::size_t kMaxRounds = 1024;  // barriers of one client that are remembered
constexpr std::size_t kMaxLeftRounds = 256;

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
  return result == SyncResult::kOk || result == SyncResult::kOkLast ||
         result == SyncResult::kOkOwnerDied;
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
  if (to != self_)
    out.messages.emplace_back(to, std::move(message));
  else
    deliver(self_, message, out);
}

void SyncService::send_home(const SyncMessage& message, Out& out) {
  send(home_of(message), message, out);
}

// Puts a request before its home; while the view changes it waits for its turn to be registered.
void SyncService::ask(Outstanding& outstanding, Out& out) {
  if (phase_ != Phase::kRegistering && phase_ != Phase::kServing) return;
  outstanding.asked = true;
  outstanding.home = home_of(outstanding.message);
  send_home(SyncMessage(outstanding.message), out);
}

void SyncService::answer(std::uint64_t request, SyncResult result, Out& out) {
  const auto found = outstanding_.find(request);
  if (found == outstanding_.end()) return;
  if (!found->second.abandoned) out.answers.push_back({request, result});
  outstanding_.erase(found);
}

// What can be said without asking the home. This node knows what its programs hold.
std::optional<SyncResult> SyncService::judge(const SyncMessage& message) {
  Client& client = clients_[message.party.client];
  switch (message.kind) {
    case SyncKind::kBarrier: {
      const auto last = client.rounds.find(message.name);
      if (last == client.rounds.end()) return {};
      const bool broken = last->second.broken && last->second.count == message.count;
      if (!broken) return {};
      client.rounds.erase(last);  // whoever comes again begins afresh
      return SyncResult::kBroken;
    }
    case SyncKind::kLock:
    case SyncKind::kTryLock:
      if (client.held.contains({message.name, message.party.holder})) return SyncResult::kDeadlock;
      if (client.held.size() >= kMaxHeld) return SyncResult::kOverload;
      return {};
    case SyncKind::kUnlock:
      return client.held.erase({message.name, message.party.holder}) != 0 ? SyncResult::kOk
                                                                          : SyncResult::kNotHeld;
    case SyncKind::kCondWait:
      // It holds the lock again when the answer comes.
      if (client.held.erase({message.lock, message.party.holder}) == 0) return SyncResult::kNotHeld;
      return {};
    default:
      return {};
  }
}

std::uint64_t SyncService::request(const Request& request, Out& out) {
  const std::uint64_t id = ++last_request_;
  SyncMessage message;
  message.kind = request.kind;
  message.request = id;
  message.party = {self_, request.client, request.holder};
  message.count = request.count;
  message.name = request.name;
  message.lock = request.lock;
  if (outstanding_.size() >= kMaxOutstanding && request.kind != SyncKind::kUnlock) {
    out.answers.push_back({id, SyncResult::kOverload});
    return id;
  }
  if (const auto verdict = judge(message)) {
    out.answers.push_back({id, *verdict});
    // Nobody waits for the home's word on an unlock. One that a view change swallows has its effect
    // too: the lock is not registered as held.
    if (message.kind != SyncKind::kUnlock || *verdict != SyncResult::kOk) return id;
    message.request = 0;
    if (phase_ == Phase::kRegistering || phase_ == Phase::kServing) send_home(message, out);
    return id;
  }
  Outstanding& outstanding = outstanding_[id];
  outstanding.message = std::move(message);
  outstanding.deadline_ms = request.deadline_ms;
  ask(outstanding, out);
  return id;
}

void SyncService::client_gone(std::uint64_t client, Out& out) {
  std::vector<std::uint64_t> withdrawn;
  for (auto& [id, outstanding] : outstanding_) {
    if (outstanding.message.party.client != client || outstanding.abandoned) continue;
    outstanding.abandoned = true;
    outstanding.deadline_ms.reset();
    withdrawn.push_back(id);
  }
  for (const std::uint64_t id : withdrawn) {
    const auto found = outstanding_.find(id);
    if (found != outstanding_.end() && found->second.asked)
      cancel(Outstanding(found->second), true, out);
    else if (found != outstanding_.end())
      outstanding_.erase(found);  // no home ever heard of it
  }

  const auto found = clients_.find(client);
  if (found == clients_.end()) return;
  const Client gone = std::move(found->second);
  clients_.erase(found);
  for (const auto& [name, holder] : gone.held)
    report_death(SyncKind::kUnlock, name, {self_, client, holder}, out);
  for (const auto& [name, round] : gone.rounds) {
    SyncMessage barrier;
    barrier.name = name;
    barrier.party = {self_, client, 0};
    leave_round(barrier, round.number, round.nodes, out);
  }
}

// That the holder of a lock died is kept until the home has answered: a view change must not
// swallow it.
void SyncService::report_death(SyncKind kind, const std::string& lock, const SyncParty& holder,
                               Out& out) {
  const std::uint64_t id = ++last_request_;
  Outstanding& report = outstanding_[id];
  report.abandoned = true;  // no program waits for the answer
  report.message.kind = kind;
  report.message.request = id;
  report.message.name = lock;
  report.message.party = holder;
  report.message.died = true;
  ask(report, out);
}

// Tells those who took part in the round that this participant will not come to the next.
void SyncService::leave_round(const SyncMessage& barrier, std::uint32_t number,
                              const std::vector<NodeId>& nodes, Out& out) {
  SyncMessage leave;
  leave.kind = SyncKind::kBarrierLeave;
  leave.name = barrier.name;
  leave.count = number;
  leave.party = barrier.party;
  for (NodeId node : std::vector<NodeId>(nodes))
    if (view_.contains(node)) send(node, leave, out);
}

void SyncService::cancel(const Outstanding& outstanding, bool died, Out& out) {
  if (phase_ != Phase::kRegistering && phase_ != Phase::kServing) return;
  SyncMessage message = outstanding.message;
  message.kind = SyncKind::kCancel;
  message.died = died;
  const SyncKind kind = outstanding.message.kind;
  if (kind == SyncKind::kLock || kind == SyncKind::kTryLock || kind == SyncKind::kUnlock) {
    message.lock = std::move(message.name);
    message.name.clear();
  }
  if (kind != SyncKind::kUnlock && kind != SyncKind::kOrphaned) send_home(message, out);
}

void SyncService::deliver(NodeId from, const SyncMessage& message, Out& out) {
  if (message.epoch > view_.epoch) {
    if (early_.size() < kMaxEarly) early_.emplace_back(from, message);
    return;
  }
  if (message.kind == SyncKind::kBarrierLeave) return on_barrier_leave(message, out);
  const bool old = message.epoch < view_.epoch;
  if (message.kind == SyncKind::kReply) {
    // An old home's answers count until its marker.
    const bool counts = old ? awaited_.contains(from) : view_.contains(from);
    if (counts && message.party.node == self_) on_reply(message, out);
    return;
  }
  // A node that departed with an older view may still have something to say.
  if (old && message.kind == SyncKind::kMarker && !view_.contains(from) && !view_.departs(from))
    return on_marker(from, out);
  if (old && message.kind == SyncKind::kOrphaned && awaited_.contains(from) &&
      !view_.contains(from))
    note_orphan(message.name);
  if (old || (!view_.contains(from) && !view_.departs(from)) || phase_ == Phase::kOutside) return;
  switch (message.kind) {
    case SyncKind::kMarker:
      return on_marker(from, out);
    case SyncKind::kRegistered:
      registered_.insert(from);
      return maybe_serve(out);
    case SyncKind::kOrphaned:
      if (phase_ != Phase::kServing) orphans_here_.push_back(message);
      return;
    case SyncKind::kHeld:
      if (phase_ != Phase::kServing && message.party.node == from)
        home_.restore_held(message.name, message.party);
      return;
    default:
      if (message.party.node != from) return;  // not its to ask
      if (phase_ != Phase::kServing)
        waiting_.push_back(message);
      else
        at_home(message, out);
      return;
  }
}

void SyncService::at_home(const SyncMessage& message, Out& out) {
  home_.handle(message, [&](NodeId to, SyncMessage reply) { send(to, std::move(reply), out); });
}

void SyncService::on_reply(const SyncMessage& message, Out& out) {
  const auto found = outstanding_.find(message.request);
  if (found == outstanding_.end()) return;
  const Outstanding asked = std::move(found->second);
  outstanding_.erase(found);
  SyncResult result = message.result;
  const SyncKind kind = asked.message.kind;
  const bool grants_lock =
      (kind == SyncKind::kLock || kind == SyncKind::kTryLock || kind == SyncKind::kCondWait) &&
      granted(result);
  // A condition wait that ran out of time holds the lock all the same.
  const bool holds_lock =
      grants_lock || (kind == SyncKind::kCondWait && result == SyncResult::kTimedOut);
  if (asked.abandoned) {
    if (holds_lock) take_back(asked.message, result == SyncResult::kOkOwnerDied, out);
    if (kind == SyncKind::kBarrier && granted(result))
      leave_round(asked.message, message.count, message.nodes, out);
    return;
  }
  Client& client = clients_[asked.message.party.client];
  if (holds_lock)
    client.held.emplace(kind == SyncKind::kCondWait ? asked.message.lock : asked.message.name,
                        asked.message.party.holder);
  if (asked.reacquires && asked.late && result == SyncResult::kOk) result = SyncResult::kTimedOut;
  if (kind == SyncKind::kBarrier) {
    const auto last = client.rounds.extract(asked.message.name);
    if (granted(result)) {
      const std::uint32_t previous = last.empty() ? 0 : last.mapped().number;
      if (client.rounds.size() >= kMaxRounds) client.rounds.erase(client.rounds.begin());
      const bool broken =
          std::ranges::count(left_rounds_, std::pair(asked.message.name, message.count)) != 0;
      client.rounds[asked.message.name] = {message.count, previous, asked.message.count,
                                           message.nodes, broken};
    }
  }
  out.answers.push_back({message.request, result});
}

// Granted to a program that is gone and never knew: given back as if it had not been. `died`: it
// would have been told of a death, so the next has to be.
void SyncService::take_back(const SyncMessage& asked, bool died, Out& out) {
  const std::string& lock = asked.kind == SyncKind::kCondWait ? asked.lock : asked.name;
  if (died) return report_death(SyncKind::kUnlock, lock, asked.party, out);
  if (phase_ != Phase::kRegistering && phase_ != Phase::kServing) return;  // it isn't registered
  SyncMessage unlock;
  unlock.kind = SyncKind::kUnlock;
  unlock.name = lock;
  unlock.party = asked.party;
  send_home(unlock, out);
}

// A program that took part in a round is gone, or was put out of the one after it. Those of ours
// that took part too can't complete the next round: who waits in it is told now, who comes later,
// then.
void SyncService::on_barrier_leave(const SyncMessage& message, Out& out) {
  if (!message.died) left_rounds_.emplace_back(message.name, message.count);
  if (left_rounds_.size() > kMaxLeftRounds) left_rounds_.pop_front();
  std::set<std::uint64_t> affected;
  for (auto& [id, client] : clients_) {
    const auto round = client.rounds.find(message.name);
    if (round == client.rounds.end()) {
      if (message.died && message.count == 0) affected.insert(id);  // it may be in the same first
      continue;
    }
    const bool met = round->second.number == message.count;
    const bool opened_for_it = message.died && round->second.previous == message.count;
    if (!met && !opened_for_it) continue;
    round->second.broken = true;
    affected.insert(id);
  }
  std::vector<Outstanding> waiting;
  for (const auto& [id, outstanding] : outstanding_)
    if (outstanding.message.kind == SyncKind::kBarrier &&
        outstanding.message.name == message.name &&
        affected.contains(outstanding.message.party.client))
      waiting.push_back(outstanding);
  for (const Outstanding& each : waiting) cancel(each, true, out);
}

void SyncService::tick(std::uint64_t now_ms, Out& out) {
  std::vector<std::uint64_t> due;
  for (auto& [id, outstanding] : outstanding_)
    if (outstanding.deadline_ms && *outstanding.deadline_ms <= now_ms) due.push_back(id);
  for (const std::uint64_t id : due) {
    const auto found = outstanding_.find(id);
    if (found == outstanding_.end()) continue;
    Outstanding& late = found->second;
    late.deadline_ms.reset();  // the home answers now, one way or the other
    late.late = true;
    const bool unheard = !late.asked && late.message.kind != SyncKind::kCondWait;
    if (unheard)
      answer(id, SyncResult::kTimedOut, out);
    else if (!late.reacquires)
      cancel(Outstanding(late), false, out);
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
