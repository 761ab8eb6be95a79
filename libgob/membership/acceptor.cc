// A member's answers to a proposer, and taking a new view.
#include <algorithm>
#include <tuple>

#include "libgob/membership/membership.h"

namespace gob {

using namespace membership;

void Membership::receive(NodeId from, const membership::Status& message, Out& out) {
  Peer& peer = peers_[from.value()];
  // One that was behind when it was asked, and is not any more: ask again.
  if (round_ && !round_->accepting && installed_ && message.view == installed_->record.slot() &&
      !round_->promises.contains(from))
    round_->asked.erase(from);
  peer.status = message;
  if (phase_ == Phase::kMember && left_behind(from)) tell_excluded(from, out);
}

// The peer is in a view from which no way leads to this one: it missed a view without it, or was
// part of another cluster when this one took it in.
bool Membership::left_behind(NodeId node) const {
  const Peer& peer = peers_[node.value()];
  if (!peer.up || !peer.status || peer.status->view.index == 0) return false;
  const ViewRecord& record = installed_->record;
  if (!is_behind(peer.status->view)) return false;
  if (peer.status->view.cluster != record.cluster) return true;
  return !record.has_member(member(node)) && !record.has_departing(member(node));
}

// True if the sender's `base` is the view this node would continue. Tells a sender whom the cluster
// has left behind.
bool Membership::same_slot(NodeId from, const Slot& base, Out& out) {
  if (phase_ == Phase::kDeparting) return false;
  const Slot mine = installed_ ? installed_->record.slot() : Slot{};
  if (base == mine) return true;
  if (installed_ && base.index != 0 && is_behind(base)) {
    const Member process = member(from);
    if (!installed_->record.has_member(process) && !installed_->record.has_departing(process))
      tell_excluded(from, out);
  }
  return false;
}

// This node knows what follows `base`: the view it is in.
bool Membership::decided(const Slot& base) const { return installed_ && installed_->base == base; }

void Membership::receive(NodeId from, const Prepare& message, Out& out) {
  highest_round_ = std::max(highest_round_, round_of(message.ballot));
  Promise promise;
  promise.ballot = message.ballot;
  promise.dead.assign(dead_.begin(), dead_.end());
  promise.fallen.assign(fallen_.begin(), fallen_.end());
  if (decided(message.base)) {
    promise.accepted = installed_;  // the sender has to come to the same
    send(from, std::move(promise), out);
    return;
  }
  if (!same_slot(from, message.base, out)) return;
  if (message.ballot <= promised_) {
    send(from, Nack{message.ballot, promised_}, out);
    return;
  }
  promised_ = message.ballot;
  round_.reset();
  wait_for(from);
  promise.accepted = accepted_;
  promise.blob = hooks_.snapshot();
  send(from, std::move(promise), out);
}

void Membership::receive(NodeId from, const Accept& message, Out& out) {
  const Proposal& proposal = message.proposal;
  highest_round_ = std::max(highest_round_, round_of(proposal.ballot));
  if (decided(proposal.base)) {
    if (proposal.record == installed_->record) send(from, Accepted{proposal.ballot}, out);
    return;
  }
  if (!same_slot(from, proposal.base, out)) return;
  if (proposal.ballot < promised_) {
    send(from, Nack{proposal.ballot, promised_}, out);
    return;
  }
  promised_ = proposal.ballot;
  accepted_ = proposal;
  wait_for(from);
  send(from, Accepted{proposal.ballot}, out);
}

void Membership::receive(NodeId, const Install& message, Out& out) {
  highest_round_ = std::max(highest_round_, round_of(message.proposal.ballot));
  if (may_install(message.proposal)) install(message.proposal, out);
}

// A view is taken only after the one it continues, and not if a later proposal has been promised:
// those who chose it may all be dead, and the living may choose otherwise. That can't be with the
// first view, since there the dead count.
bool Membership::may_install(const Proposal& proposal) const {
  const ViewRecord& record = proposal.record;
  if (!record.has_member(self()) && !record.has_departing(self())) return false;
  if (!installed_) return true;
  return proposal.base == installed_->record.slot() && proposal.ballot >= promised_;
}

void Membership::install(const Proposal& proposal, Out& out) {
  const bool joins = !installed_ && proposal.base.index != 0;
  installed_ = proposal;
  const ViewRecord& record = installed_->record;
  phase_ = record.has_member(self()) ? Phase::kMember : Phase::kDeparting;
  promised_ = proposal.ballot;
  accepted_.reset();
  round_.reset();
  attempts_ = 0;
  wait_for(kNoNode);
  need_since_.reset();
  trouble_since_.reset();
  prune_dead();
  for (std::size_t i = 0; i < peers_.size(); ++i) {
    Peer& peer = peers_[i];
    const Member process{NodeId{static_cast<std::uint16_t>(i)}, peer.incarnation};
    const bool named = record.has_member(process) || record.has_departing(process);
    // The link is younger than the view: what the peer sent in this view before may be lost.
    const bool young = !joins && record.view.epoch.value() <= peer.promised_before;
    peer.severed = named && (peer.severed || young);
  }
  out.emplace_back(InstallView{record, installed_->blob});
  if (phase_ != Phase::kMember) return;
  for (std::size_t i = 0; i < peers_.size(); ++i) {
    const NodeId node{static_cast<std::uint16_t>(i)};
    if (left_behind(node)) tell_excluded(node, out);
  }
}

void Membership::tell_excluded(NodeId to, Out& out) {
  send(to, Excluded{installed_->record.slot()}, out);
}

// `theirs` is an older view of this cluster, or of a cluster that gives way when two meet.
bool Membership::is_behind(const Slot& theirs) const {
  const Slot mine = installed_->record.slot();
  if (theirs.cluster == mine.cluster || theirs.index == 0) return theirs.index < mine.index;
  return std::tie(theirs.epoch, theirs.cluster) < std::tie(mine.epoch, mine.cluster);
}

void Membership::receive(NodeId from, const Excluded& message, Out& out) {
  if (!installed_) return;
  const Slot mine = installed_->record.slot();
  const Slot& theirs = message.view;
  const bool ahead = theirs.cluster == mine.cluster ? theirs.index > mine.index
                                                    : std::tie(theirs.epoch, theirs.cluster) >
                                                          std::tie(mine.epoch, mine.cluster);
  if (!ahead) return;
  if (phase_ == Phase::kDeparting) {
    phase_ = Phase::kLeft;  // they need nothing more from here
    out.emplace_back(Left{});
    return;
  }
  fence("node " + std::to_string(from.value()) + " says that the cluster has gone on to view " +
            std::to_string(theirs.epoch.value()) + " without this node, which is in view " +
            describe(installed_->record.view),
        out);
}

}  // namespace gob
