// Events, links, and what every step ends with.
#include "libgob/membership/membership.h"

#include <algorithm>
#include <utility>

namespace gob {

using namespace membership;

Membership::Membership(const MembershipConfig& config, MembershipHooks hooks)
    : config_(config), hooks_(std::move(hooks)), peers_(config.nodes) {}

void Membership::step(const membership::Event& event, TimeMs now, Out& out) {
  now_ = std::max(now_, now);
  if (!started_) started_ = now_;
  blocked_ = false;
  if (phase_ == Phase::kFenced || phase_ == Phase::kLeft) return;
  std::visit([&](const auto& e) { on(e, out); }, event);
  end_step(out);
}

void Membership::on(const PeerUp& event, Out& out) {
  if (!known(event.node) || event.node == config_.self || event.incarnation == 0) return;
  Peer& peer = peers_[event.node.value()];
  if (peer.up) {
    const bool restarted = peer.incarnation != event.incarnation;
    on(PeerDown{event.node, restarted ? LinkEnd::kProcessDead : LinkEnd::kClosed}, out);
  } else if (peer.incarnation != event.incarnation) {
    on(ProofOfDeath{event.node}, out);
  }
  bury_others(event.node, event.incarnation);
  peer = Peer{};
  peer.up = true;
  peer.incarnation = event.incarnation;
  peer.promised_before = promised_;
  // Messages of this view may have died with the link before this one.
  const Member process = member(event.node);
  peer.severed = installed_ && (installed_->record.has_member(process) ||
                                installed_->record.has_departing(process));
}

void Membership::on(const PeerDown& event, Out& out) {
  if (!known(event.node) || event.node == config_.self) return;
  Peer& peer = peers_[event.node.value()];
  peer.up = false;
  peer.status.reset();
  if (round_ && !installed_) {  // no view ties the node id to the process that promised
    round_->promises.erase(event.node);
    round_->accepted.erase(event.node);
    round_->asked.erase(event.node);
  }
  if (promised_to_ == event.node) wait_for(kNoNode);
  peer.silent = event.end == LinkEnd::kSilence;
  if (event.end == LinkEnd::kProcessDead) on(ProofOfDeath{event.node}, out);
}

void Membership::on(const ProofOfDeath& event, Out&) {
  if (!known(event.node) || event.node == config_.self) return;
  const Peer& peer = peers_[event.node.value()];
  if (peer.up || peer.incarnation == 0) return;
  dead_.insert(member(event.node));
  if (!peer.silent) fallen_.insert(member(event.node));
}

void Membership::on(const Deliver& event, Out& out) {
  if (!known(event.from) || event.from == config_.self) return;
  if (!peers_[event.from.value()].up) return;
  std::visit([&](const auto& message) { receive(event.from, message, out); }, event.message);
}

void Membership::on(const Tick&, Out&) {}

void Membership::on(const Serving& event, Out&) { serving_ = std::max(serving_, event.epoch); }

void Membership::on(const Leave&, Out&) {
  leaving_ = true;
  round_.reset();
}

void Membership::on(const Prune& event, Out&) {
  min_created_ = std::max(min_created_, event.min_created);
}

void Membership::end_step(Out& out) {
  if (phase_ == Phase::kFenced || phase_ == Phase::kLeft) return;
  check_left(out);
  if (phase_ == Phase::kLeft) return;
  if (dead_.size() > 4 * peers_.size()) prune_dead();
  watch_need();
  watch_laggards(out);
  if (round_)
    advance_round(out);
  else if (const auto due = proposal_due(); due && now_ >= *due)
    start_round(out);
  if (phase_ != Phase::kFenced && trouble_since_ && now_ >= fence_due())
    fence("no new view within " + std::to_string(now_ - *trouble_since_) + " ms: " + waiting_for() +
              "; this node may be cut off from the cluster",
          out);
  if (phase_ != Phase::kFenced) send_status(out);
}

void Membership::send(NodeId to, MembershipMessage message, Out& out) {
  if (peers_[to.value()].up) out.emplace_back(Send{to, std::move(message)});
}

membership::Status Membership::status() const {
  Status status;
  if (installed_) status.view = installed_->record.slot();
  status.serving = serving_;
  status.leaving = leaving_;
  for (std::size_t i = 0; i < peers_.size(); ++i) {
    const NodeId node{static_cast<std::uint16_t>(i)};
    if (reachable(node)) status.reach.push_back(member(node));
  }
  return status;
}

void Membership::send_status(Out& out) {
  const membership::Status now = status();
  const bool changed = !(now == told_);
  for (std::size_t i = 0; i < peers_.size(); ++i) {
    Peer& peer = peers_[i];
    if (!peer.up || (peer.told && !changed)) continue;
    peer.told = true;
    send(NodeId{static_cast<std::uint16_t>(i)}, now, out);
  }
  told_ = now;
}

void Membership::fence(std::string reason, Out& out) {
  phase_ = Phase::kFenced;
  round_.reset();
  out.emplace_back(Fence{std::move(reason)});
}

void Membership::check_left(Out& out) {
  if (!leaving_) return;
  bool needed = false;
  if (phase_ == Phase::kMember) {
    // Somebody must stay to whom this node can be said good-bye.
    for (NodeId node : installed_->record.view.members)
      if (node != config_.self && reachable(node) && !wants_to_leave(node)) needed = true;
  } else if (phase_ == Phase::kDeparting) {
    for (const Member& m : installed_->record.members()) {
      const Peer& peer = peers_[m.node.value()];
      if (!peer.up || peer.incarnation != m.incarnation) continue;
      if (!peer.status || peer.status->serving < installed_->record.view.epoch) needed = true;
    }
  }
  if (needed) return;
  phase_ = Phase::kLeft;
  out.emplace_back(Left{});
}

// A node runs one process at a time: another incarnation answering proves the known ones dead.
void Membership::bury_others(NodeId node, std::uint64_t living) {
  const auto bury = [&](const std::vector<Member>& members) {
    for (const Member& m : members)
      if (m.node == node && m.incarnation != living) dead_.insert(m);
  };
  const auto bury_all = [&](const std::optional<Proposal>& proposal) {
    if (!proposal) return;
    bury(proposal->record.members());
    bury(proposal->record.departing());
  };
  bury_all(installed_);
  bury_all(accepted_);
  if (!round_) return;
  for (const auto& [from, promise] : round_->promises) bury_all(promise.accepted);
}

void Membership::prune_dead() {
  const auto named = [](const std::optional<Proposal>& proposal, const Member& m) {
    return proposal && (proposal->record.has_member(m) || proposal->record.has_departing(m));
  };
  const auto unnamed = [&](const Member& m) {
    return !named(installed_, m) && !named(accepted_, m);
  };
  std::erase_if(dead_, unnamed);
  std::erase_if(fallen_, unnamed);
}

Member Membership::member(NodeId node) const {
  return node == config_.self ? self() : Member{node, peers_[node.value()].incarnation};
}

std::optional<TimeMs> Membership::next_wakeup() const {
  if (phase_ == Phase::kFenced || phase_ == Phase::kLeft) return std::nullopt;
  std::optional<TimeMs> next;
  const auto at = [&](TimeMs time) { next = next ? std::min(*next, time) : time; };
  if (!round_ && !blocked_)
    if (const auto due = proposal_due()) at(std::max(*due, now_ + 1));
  if (lag_since_) at(*lag_since_ + kLagSteps * config_.retry_ms);
  if (trouble_since_) at(fence_due());
  if (phase_ == Phase::kJoining && started_) {
    const TimeMs form = *started_ + config_.form_timeout_ms;
    if (form > now_) at(form);
  }
  return next;
}

}  // namespace gob
