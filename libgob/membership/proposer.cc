// Making the next view: one round of single-decree Paxos among the members of the view before it.
#include <algorithm>
#include <utility>

#include "libgob/membership/membership.h"

namespace gob {

using namespace membership;

namespace {
constexpr unsigned kMaxBackOffShift = 4;
constexpr unsigned kPatience = 4;
}  // namespace

// For the first view, all configured nodes count, whatever their incarnation, and nobody's death
// excuses: there is no view that a lone node could know to be the last.
bool Membership::quorum(const std::set<NodeId>& nodes) const {
  std::set<Member> group;
  if (installed_) {
    for (const Member& m : installed_->record.members())
      if (nodes.contains(m.node)) group.insert(m);
    return may_decide(installed_->record.members(), group, fallen_);
  }
  std::vector<Member> all;
  for (std::size_t i = 0; i < config_.nodes; ++i)
    all.push_back({NodeId{static_cast<std::uint16_t>(i)}, 0});
  for (NodeId node : nodes) group.insert({node, 0});
  return may_decide(all, group, {});
}

void Membership::start_round(Out& out) {
  const std::set<NodeId> willing = acceptors_in_reach();
  if (!quorum(willing) || !(unfinished() || next_record(willing, 0))) {
    blocked_ = true;
    return;
  }
  highest_round_ = std::max(highest_round_, round_of(promised_)) + 1;
  round_.emplace();
  round_->ballot = make_ballot(highest_round_, config_.self);
  promised_ = round_->ballot;
  Promise own;
  own.ballot = round_->ballot;
  own.accepted = accepted_;
  own.blob = hooks_.snapshot();
  round_->promises[config_.self] = std::move(own);
  round_->asked.insert(config_.self);
  advance_round(out);
}

void Membership::advance_round(Out& out) {
  if (!installed_ && need_now_ == Need::kNothing) {  // somebody is in a view: join it
    round_.reset();
    return;
  }
  const std::set<NodeId> willing = acceptors_in_reach();
  if (!round_->accepting) {
    const Slot base = installed_ ? installed_->record.slot() : Slot{};
    bool complete = true;
    for (NodeId node : willing) {
      if (round_->promises.contains(node)) continue;
      complete = false;
      if (!round_->asked.insert(node).second) continue;
      // It may have missed the view this round continues.
      const Peer& peer = peers_[node.value()];
      if (installed_ && (!peer.status || !(peer.status->view == base)))
        send(node, Install{*installed_}, out);
      send(node, Prepare{round_->ballot, base}, out);
    }
    if (complete) choose(out);
    if (!round_ || !round_->accepting) return;
  }
  if (quorum(round_->accepted)) {
    finish_round(out);
    return;
  }
  // Those who promised and are in reach may still accept.
  std::set<NodeId> hoped = round_->accepted;
  for (const auto& [node, promise] : round_->promises)
    if (willing.contains(node)) hoped.insert(node);
  if (!quorum(hoped)) back_off();
}

void Membership::choose(Out& out) {
  std::set<NodeId> answered;
  for (const auto& [node, promise] : round_->promises) {
    answered.insert(node);
    dead_.insert(promise.dead.begin(), promise.dead.end());
    fallen_.insert(promise.fallen.begin(), promise.fallen.end());
  }
  // A process that answers proves that others of its node, which old proposals name, are dead.
  for (const auto& [node, promise] : round_->promises) {
    if (!promise.accepted) continue;
    for (const Member& m : promise.accepted->record.members())
      if (answered.contains(m.node) && (m.node == config_.self || peers_[m.node.value()].up) &&
          m != member(m.node))
        dead_.insert(m);
  }
  if (!quorum(answered)) {
    back_off();
    return;
  }
  Proposal& proposal = round_->proposal;
  if (const Proposal* old = must_adopt()) {
    proposal = *old;
  } else {
    std::set<NodeId> present;
    for (NodeId node : acceptors_in_reach())
      if (answered.contains(node)) present.insert(node);
    auto record = next_record(present, round_->ballot);
    if (!record) {
      back_off();
      return;
    }
    // Only tables that stand still count; the members' do, since they promised.
    std::vector<std::string> blobs;
    for (const auto& [node, promise] : round_->promises)
      if (record->view.contains(node) || record->view.departs(node)) blobs.push_back(promise.blob);
    proposal.base = installed_ ? installed_->record.slot() : Slot{};
    proposal.record = std::move(*record);
    proposal.blob = hooks_.merge(blobs);
  }
  proposal.ballot = round_->ballot;
  round_->accepting = true;
  accepted_ = proposal;
  round_->accepted.insert(config_.self);
  for (NodeId node : answered)
    if (node != config_.self) send(node, Accept{proposal}, out);
}

// The proposal accepted under the latest ballot may have been chosen, unless nobody lives who could
// have installed it.
const Proposal* Membership::must_adopt() const {
  const Proposal* latest = nullptr;
  for (const auto& [node, promise] : round_->promises) {
    if (!promise.accepted) continue;
    const auto members = promise.accepted->record.members();
    const auto is_dead = [&](const Member& m) { return dead_.contains(m); };
    if (std::ranges::all_of(members, is_dead)) continue;
    if (latest == nullptr || promise.accepted->ballot > latest->ballot) latest = &*promise.accepted;
  }
  return latest;
}

void Membership::finish_round(Out& out) {
  const Proposal proposal = std::move(round_->proposal);
  round_.reset();
  const auto send_install = [&](const Member& m) {
    if (m == self() || !known(m.node)) return;
    if (peers_[m.node.value()].incarnation == m.incarnation) send(m.node, Install{proposal}, out);
  };
  for (const Member& m : proposal.record.members()) send_install(m);
  for (const Member& m : proposal.record.departing()) send_install(m);
  if (may_install(proposal)) {
    install(proposal, out);
    return;
  }
  // An older proposal without this node had to be completed.
  if (!installed_) {
    back_off();
    return;
  }
  fence("the cluster goes on with view " + describe(proposal.record.view) + " without this node",
        out);
}

// A proposer that got this node's promise is left alone for a while, unless its link breaks.
void Membership::wait_for(NodeId proposer) {
  promised_to_ = proposer;
  retry_at_ = proposer == kNoNode ? 0 : now_ + config_.retry_ms * (kPatience + 2 * rank());
}

void Membership::back_off() {
  round_.reset();
  ++attempts_;
  const unsigned shift = std::min(attempts_, kMaxBackOffShift);
  const std::uint64_t steps = mix64(config_.incarnation + attempts_) % (1u << shift);
  retry_at_ = now_ + config_.retry_ms * (1 + steps);
}

void Membership::receive(NodeId from, const Promise& message, Out&) {
  if (round_ && message.ballot == round_->ballot && round_->asked.contains(from))
    round_->promises.emplace(from, message);
}

void Membership::receive(NodeId, const Nack& message, Out&) {
  highest_round_ = std::max(highest_round_, round_of(message.promised));
  if (round_ && message.ballot == round_->ballot) back_off();
}

void Membership::receive(NodeId from, const Accepted& message, Out&) {
  if (round_ && round_->accepting && message.ballot == round_->ballot &&
      round_->asked.contains(from))
    round_->accepted.insert(from);
}

}  // namespace gob
