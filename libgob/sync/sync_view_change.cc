// What a view change does to synchronisation: drain, register, serve.
#include <algorithm>
#include <utility>

#include "libgob/sync/sync_service.h"

namespace gob {

void SyncService::install_view(const View& view, Out& out) {
  if (view.epoch <= view_.epoch) return;
  const View before = std::exchange(view_, view);
  phase_ = Phase::kDraining;
  // Deaths that nobody has been told of yet.
  for (const std::string& name : home_.reset(view_.members)) note_orphan(name);
  for (const SyncMessage& orphan : orphans_here_) note_orphan(orphan.name);
  for (const SyncMessage& message : waiting_)
    if (message.kind == SyncKind::kLock && message.died) note_orphan(message.name);
  registered_.clear();
  orphans_here_.clear();
  waiting_.clear();
  for (NodeId node : before.members)
    if (!view_.contains(node) && !view_.departs(node)) dead_.insert(node);
  // What stays are nodes that departed with an older view and have not said their last word.
  std::erase_if(awaited_, [&](NodeId node) { return before.contains(node); });
  for (auto& [id, outstanding] : outstanding_) {
    const NodeId home = outstanding.home;
    if (home != kNoNode && !view_.contains(home) && !view_.departs(home) &&
        !awaited_.contains(home))
      outstanding.home_died = true;
  }
  if (!view_.contains(self_)) return depart(out);
  await_markers(out);
  const auto early = std::exchange(early_, {});
  maybe_register(out);
  for (const auto& [from, message] : early) deliver(from, message, out);
}

// For the next home of the lock, when this node registers.
void SyncService::note_orphan(const std::string& name) {
  for (const auto& [id, outstanding] : outstanding_)
    if (outstanding.message.kind == SyncKind::kOrphaned && outstanding.message.name == name) return;
  Out none;
  report_death(SyncKind::kOrphaned, name, {self_, 0, 0}, none);
}

void SyncService::await_markers(Out& out) {
  for (const auto* nodes : {&view_.members, &view_.departing}) {
    for (NodeId node : *nodes) {
      if (node == self_) continue;
      awaited_.insert(node);
      SyncMessage marker;
      marker.kind = SyncKind::kMarker;
      marker.party.node = self_;
      send(node, marker, out);
    }
  }
}

// Nothing of an older view follows from this node: what it knew as a home has been told.
void SyncService::on_marker(NodeId from, Out& out) {
  if (awaited_.erase(from) == 0) return;
  for (auto& [id, outstanding] : outstanding_)
    if (outstanding.home == from) outstanding.home = kNoNode;
  maybe_register(out);
}

// This node is leaving: it passes on what it knows as a home. Its own programs get no answers any
// more from anybody.
void SyncService::depart(Out& out) {
  phase_ = Phase::kOutside;
  awaited_.clear();
  early_.clear();
  if (view_.departs(self_)) {
    for (const auto& [id, outstanding] : outstanding_) {
      const SyncKind kind = outstanding.message.kind;
      if (kind != SyncKind::kOrphaned && kind != SyncKind::kUnlock) continue;  // no death
      SyncMessage orphan = outstanding.message;
      orphan.kind = SyncKind::kOrphaned;
      send_home(orphan, out);
    }
    SyncMessage marker;
    marker.kind = SyncKind::kMarker;
    marker.party.node = self_;
    for (NodeId node : view_.members) send(node, marker, out);
  }
  for (const auto& [id, outstanding] : outstanding_)
    if (!outstanding.abandoned) out.answers.push_back({id, SyncResult::kBroken});
  outstanding_.clear();
  clients_.clear();
}

// A member that broke off will be out of the next view; one that departs is not waited for.
void SyncService::peer_down(NodeId node, Out& out) {
  if (view_.contains(node) || awaited_.erase(node) == 0) return;
  for (auto& [id, outstanding] : outstanding_)
    if (outstanding.home == node) outstanding.home_died = true;
  maybe_register(out);
}

bool SyncService::round_broken(const SyncMessage& barrier) const {
  const auto client = clients_.find(barrier.party.client);
  if (client == clients_.end()) return false;
  const auto last = client->second.rounds.find(barrier.name);
  return last != client->second.rounds.end() && last->second.broken;
}

// Whether a barrier can never be completed, as far as this node can know: somebody of its last
// round died, or it is the first and nobody knows who was to come.
bool SyncService::breaks(const SyncMessage& barrier) const {
  if (dead_.empty()) return false;
  const auto client = clients_.find(barrier.party.client);
  const bool first = client == clients_.end() || !client->second.rounds.contains(barrier.name);
  return first || round_broken(barrier);
}

void SyncService::maybe_register(Out& out) {
  if (phase_ != Phase::kDraining || !awaited_.empty()) return;
  phase_ = Phase::kRegistering;
  for (auto& [id, client] : clients_)
    for (auto& [name, round] : client.rounds)
      for (NodeId node : round.nodes)
        if (dead_.contains(node)) round.broken = true;
  register_held(out);
  register_outstanding(out);
  dead_.clear();
  for (NodeId node : std::vector<NodeId>(view_.members)) {
    SyncMessage done;
    done.kind = SyncKind::kRegistered;
    done.party.node = self_;
    send(node, done, out);
  }
}

void SyncService::register_held(Out& out) {
  for (const auto& [id, client] : clients_) {
    for (const auto& [name, holder] : client.held) {
      SyncMessage held;
      held.kind = SyncKind::kHeld;
      held.name = name;
      held.party = {self_, id, holder};
      send_home(held, out);
    }
  }
}

// Those for whom it opened, if any, must not wait for this participant in the next round.
void SyncService::break_barrier(std::uint64_t request, Out& out) {
  const SyncMessage barrier = outstanding_.at(request).message;
  SyncMessage leave;
  leave.kind = SyncKind::kBarrierLeave;
  leave.name = barrier.name;
  leave.party = barrier.party;
  leave.died = true;
  if (const auto client = clients_.find(barrier.party.client); client != clients_.end())
    if (const auto last = client->second.rounds.extract(barrier.name); !last.empty())
      leave.count = last.mapped().number;
  answer(request, SyncResult::kBroken, out);
  for (NodeId node : std::vector<NodeId>(view_.members)) send(node, leave, out);
}

// In the order asked.
void SyncService::register_outstanding(Out& out) {
  std::vector<std::uint64_t> all;
  for (const auto& [id, outstanding] : outstanding_) all.push_back(id);
  for (const std::uint64_t id : all) {
    const auto found = outstanding_.find(id);
    if (found == outstanding_.end()) continue;
    Outstanding& each = found->second;
    SyncMessage& message = each.message;
    switch (message.kind) {
      case SyncKind::kBarrier:
        // A home that died may have opened it for others.
        if (each.home_died || breaks(message)) {
          break_barrier(id, out);
          continue;
        }
        if (each.late) {
          answer(id, SyncResult::kTimedOut, out);
          continue;
        }
        break;
      case SyncKind::kCondWait:
        // A wake-up may have been lost on the way: one too many does no harm, one too few would.
        message.kind = SyncKind::kLock;
        message.name = std::exchange(message.lock, {});
        each.reacquires = true;
        [[fallthrough]];
      case SyncKind::kLock:
      case SyncKind::kTryLock:
        if (each.abandoned) {
          outstanding_.erase(found);
          continue;
        }
        if (each.late && !each.reacquires) {
          answer(id, SyncResult::kTimedOut, out);
          continue;
        }
        message.died = each.home_died;
        break;
      case SyncKind::kUnlock:  // of a program that died
        message.kind = SyncKind::kOrphaned;
        break;
      default:
        break;
    }
    each.home_died = false;
    ask(each, out);
    // A barrier that somebody's death breaks: the home learns of it again.
    const auto still = outstanding_.find(id);
    if (still == outstanding_.end() || still->second.message.kind != SyncKind::kBarrier) continue;
    const Outstanding barrier = still->second;
    if (barrier.abandoned || round_broken(barrier.message)) cancel(barrier, true, out);
  }
}

void SyncService::maybe_serve(Out& out) {
  const auto has_come = [&](NodeId node) { return registered_.contains(node); };
  if (phase_ != Phase::kRegistering || !std::ranges::all_of(view_.members, has_come)) return;
  phase_ = Phase::kServing;
  const auto waiting = std::exchange(waiting_, {});
  const auto orphans = std::exchange(orphans_here_, {});
  for (const SyncMessage& orphan : orphans) {
    home_.restore_orphan(orphan.name);
    SyncMessage noted;
    noted.kind = SyncKind::kReply;
    noted.request = orphan.request;
    noted.party = orphan.party;
    if (view_.contains(orphan.party.node)) send(orphan.party.node, noted, out);
  }
  // Who waits for a lock of a home that died can't know whether its holder died too, if nobody
  // says that he holds it.
  for (const SyncMessage& message : waiting)
    if (message.kind == SyncKind::kLock && message.died) home_.restore_orphan(message.name);
  for (const SyncMessage& message : waiting) at_home(message, out);
}

}  // namespace gob
