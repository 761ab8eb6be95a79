// Is a new view needed, who could be in it, and who should propose it.
#include <algorithm>
#include <iterator>

#include "libgob/membership/membership.h"

namespace gob {

using namespace membership;

bool Membership::reachable(NodeId node) const {
  if (!known(node) || node == config_.self) return false;
  const Peer& peer = peers_[node.value()];
  if (!peer.up || peer.severed) return false;
  if (!installed_) return true;
  // A node id of the view that another process answers for now.
  const ViewRecord& record = installed_->record;
  if (record.view.contains(node)) return record.has_member(member(node));
  if (record.view.departs(node)) return record.has_departing(member(node)) || settled();
  return true;
}

// Both ends say that the link between them is whole.
bool Membership::linked(NodeId a, NodeId b) const {
  const auto says = [&](NodeId from, NodeId to) {
    if (from == config_.self) return reachable(to);
    const auto& status = peers_[from.value()].status;
    return reachable(from) && status && std::ranges::binary_search(status->reach, member(to));
  };
  return says(a, b) && says(b, a);
}

bool Membership::wants_to_leave(NodeId node) const {
  if (node == config_.self) return leaving_;
  const auto& status = peers_[node.value()].status;
  return status && status->leaving;
}

// Departs with this view and is still there (a node that is back already is another process).
bool Membership::waits_to_depart(NodeId node) const {
  return reachable(node) && installed_->record.has_departing(member(node));
}

bool Membership::unfinished() const {
  if (!installed_) return promised_ != 0;
  return promised_ > installed_->ballot;
}

bool Membership::settled() const {
  const Epoch epoch = installed_->record.view.epoch;
  return std::ranges::all_of(installed_->record.view.members, [&](NodeId node) {
    if (node == config_.self) return serving_ >= epoch;
    const auto& status = peers_[node.value()].status;
    return reachable(node) && status && status->serving >= epoch;
  });
}

// Greedy, lowest ids first: nodes of `from` that are linked to everyone already chosen.
std::vector<NodeId> Membership::clique(const std::vector<NodeId>& from,
                                       std::vector<NodeId> start) const {
  for (NodeId node : from) {
    if (std::ranges::find(start, node) != start.end()) continue;
    if (std::ranges::all_of(start, [&](NodeId chosen) { return linked(node, chosen); }))
      start.push_back(node);
  }
  return start;
}

// Nodes that wait outside and are linked to all members. The view is settled: a node that departed
// with it may be back as another process.
std::vector<NodeId> Membership::joiners(const std::vector<NodeId>& members) const {
  const View& view = installed_->record.view;
  std::vector<NodeId> waiting;
  for (std::size_t i = 0; i < peers_.size(); ++i) {
    const NodeId node{static_cast<std::uint16_t>(i)};
    const Peer& peer = peers_[i];
    if (!peer.up || !peer.status || peer.status->view.index != 0 || peer.status->leaving) continue;
    if (!view.contains(node)) waiting.push_back(node);
  }
  if (waiting.empty()) return {};
  std::vector<NodeId> all = clique(waiting, members);
  all.erase(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(members.size()));
  return all;
}

std::set<NodeId> Membership::acceptors_in_reach() const {
  std::set<NodeId> nodes{config_.self};
  if (installed_) {
    for (NodeId node : installed_->record.view.members)
      if (reachable(node)) nodes.insert(node);
    return nodes;
  }
  for (std::size_t i = 0; i < peers_.size(); ++i) {
    const auto& status = peers_[i].status;
    if (peers_[i].up && status && status->view.index == 0)
      nodes.insert(NodeId{static_cast<std::uint16_t>(i)});
  }
  return nodes;
}

// The view that `willing` acceptors can make; nothing if those who could be in it may not decide.
// A view drops nodes or takes in new ones, never both: a newcomer must not be all that is left of a
// decision that the nodes left out never heard of.
std::optional<ViewRecord> Membership::next_record(const std::set<NodeId>& willing,
                                                  Ballot ballot) const {
  std::vector<NodeId> staying;
  std::vector<NodeId> leaving;
  for (NodeId node : willing) {
    if (wants_to_leave(node))
      leaving.push_back(node);
    else if (node == config_.self || linked(node, config_.self))
      staying.push_back(node);
  }
  ViewRecord next;
  next.view.epoch = Epoch{ballot};
  std::vector<NodeId>& members = next.view.members;
  members = clique(staying, {config_.self});

  std::vector<NodeId>& departing = next.view.departing;
  const auto linked_to_all = [&](NodeId node) {
    return std::ranges::all_of(members, [&](NodeId m) { return linked(node, m); });
  };
  if (installed_) std::ranges::copy_if(leaving, std::back_inserter(departing), linked_to_all);
  std::set<NodeId> deciding(members.begin(), members.end());
  deciding.insert(departing.begin(), departing.end());
  if (!quorum(deciding)) return std::nullopt;

  if (installed_) {
    const ViewRecord& base = installed_->record;
    next.cluster = base.cluster;
    next.index = base.index + 1;
    std::vector<NodeId> dead;
    for (NodeId node : base.view.members)
      if (!deciding.contains(node)) dead.push_back(node);
    const bool base_settled = dead.empty() && settled();
    if (!base_settled) {
      // Nodes on their way out that have not yet reported what they managed.
      for (NodeId node : base.view.departing)
        (waits_to_depart(node) && linked_to_all(node) ? departing : dead).push_back(node);
    }
    std::ranges::sort(dead);
    carry_losses(base, base_settled, dead, min_created_, next);
    if (base_settled && departing.empty() && members.size() == base.view.members.size())
      for (NodeId node : joiners(members)) members.push_back(node);
  } else {
    next.cluster = config_.incarnation;
    next.index = 1;
  }
  std::ranges::sort(members);
  std::ranges::sort(departing);
  for (NodeId node : members) next.incarnations.push_back(member(node).incarnation);
  for (NodeId node : departing) next.departing_incarnations.push_back(member(node).incarnation);
  return next;
}

Membership::Need Membership::need_first_view() const {
  std::size_t ready = 1;
  for (std::size_t i = 0; i < peers_.size(); ++i) {
    const Peer& peer = peers_[i];
    if (!peer.up || !peer.status) continue;
    if (peer.status->view.index != 0) return Need::kNothing;  // its leader takes this node in
    // Linked to all, and says the same of the others: a link that comes up while the first view is
    // being made would be too young for it.
    if (linked(NodeId{static_cast<std::uint16_t>(i)}, config_.self) &&
        peers_[i].status->reach.size() + 1 == config_.nodes)
      ++ready;
  }
  if (ready == config_.nodes) return Need::kNow;
  if (unfinished() && quorum(acceptors_in_reach())) return Need::kSoon;
  return now_ >= *started_ + config_.form_timeout_ms ? Need::kNow : Need::kNothing;
}

Membership::Need Membership::need() const {
  if (leaving_ || phase_ == Phase::kDeparting) return Need::kNothing;
  if (phase_ == Phase::kJoining) return need_first_view();
  if (unfinished() || lost_member()) return Need::kNow;
  const ViewRecord& record = installed_->record;
  const std::vector<Member> members = record.members();
  // A node that departed heard all members serve; their word may only be on its way to this one.
  bool soon = lost_departing();
  for (NodeId node : record.view.members) {
    if (node == config_.self) continue;
    if (wants_to_leave(node)) return Need::kNow;
    // Does it see all the others? Its word may be on its way, so give it a little time.
    const auto& status = peers_[node.value()].status;
    if (!status) continue;
    std::vector<Member> unseen;
    std::ranges::set_difference(members, status->reach, std::back_inserter(unseen));
    if (unseen.size() > 1) soon = true;
  }
  if (soon) return Need::kSoon;
  return settled() && !joiners(record.view.members).empty() ? Need::kSoon : Need::kNothing;
}

bool Membership::lost_member() const {
  return std::ranges::any_of(installed_->record.view.members,
                             [&](NodeId node) { return node != config_.self && !reachable(node); });
}

// A node on its way out is gone, and as far as is known here it still had to report.
bool Membership::lost_departing() const {
  const auto gone = [&](NodeId node) { return !waits_to_depart(node); };
  return std::ranges::any_of(installed_->record.view.departing, gone) && !settled();
}

// Nothing can go on in the view as it is.
bool Membership::in_trouble() const {
  return phase_ == Phase::kMember && (unfinished() || lost_member() || lost_departing());
}

// How many others should propose before this node does.
unsigned Membership::rank() const {
  unsigned lower = 0;
  for (NodeId node : acceptors_in_reach())
    if (node < config_.self && !wants_to_leave(node)) ++lower;
  return lower;
}

void Membership::watch_need() {
  need_now_ = need();
  if (need_now_ == Need::kNothing)
    need_since_.reset();
  else if (!need_since_)
    need_since_ = now_;
  if (!in_trouble())
    trouble_since_.reset();
  else if (!trouble_since_)
    trouble_since_ = now_;
}

TimeMs Membership::fence_due() const {
  const bool in_touch = quorum(acceptors_in_reach());
  return *trouble_since_ + config_.fence_timeout_ms + (in_touch ? config_.stall_timeout_ms : 0);
}

// Members and departing nodes that, as far as is known here, are still in the view before.
std::vector<NodeId> Membership::laggards() const {
  std::vector<NodeId> behind;
  if (phase_ != Phase::kMember) return behind;
  const auto look_at = [&](NodeId node) {
    if (node == config_.self || !reachable(node)) return;
    const auto& status = peers_[node.value()].status;
    if (status && (status->view.index == 0 || status->view == installed_->base))
      behind.push_back(node);
  };
  for (NodeId node : installed_->record.view.members) look_at(node);
  for (NodeId node : installed_->record.view.departing)
    if (waits_to_depart(node)) look_at(node);
  return behind;
}

// Whoever chose the view may have died, or lost touch with a member, before all had it: the lowest
// member that has it passes it on.
void Membership::watch_laggards(Out& out) {
  const std::vector<NodeId> behind = laggards();
  if (behind.empty()) {
    lag_since_.reset();
    return;
  }
  if (!lag_since_) lag_since_ = now_;
  if (now_ < *lag_since_ + kLagSteps * config_.retry_ms) return;
  lag_since_ = now_;
  for (NodeId node : installed_->record.view.members) {
    if (node == config_.self) break;
    if (reachable(node) && std::ranges::count(behind, node) == 0) return;
  }
  for (NodeId node : behind) send(node, Install{*installed_}, out);
}

std::optional<TimeMs> Membership::proposal_due() const {
  if (need_now_ == Need::kNothing || !need_since_) return std::nullopt;
  const TimeMs wait = (need_now_ == Need::kSoon ? 1u : 0u) + 2 * rank();
  return std::max(*need_since_ + wait * config_.retry_ms, retry_at_);
}

std::string Membership::waiting_for() const {
  const auto list = [](const std::vector<NodeId>& nodes) {
    std::string text;
    for (NodeId node : nodes) text += (text.empty() ? "" : ", ") + std::to_string(node.value());
    return text;
  };
  std::vector<NodeId> missing;
  if (!installed_) {
    for (std::size_t i = 0; i < config_.nodes; ++i) {
      const NodeId node{static_cast<std::uint16_t>(i)};
      if (node != config_.self && !peers_[i].up) missing.push_back(node);
    }
    if (missing.empty()) return "no view yet: every configured node is connected";
    return "no view yet: not connected to node " + list(missing);
  }
  for (NodeId node : installed_->record.view.members)
    if (node != config_.self && !reachable(node)) missing.push_back(node);
  if (!missing.empty())
    return "view " + describe(installed_->record.view) + " lost node " + list(missing) +
           ", and a new one is not agreed on";
  if (unfinished())
    return "the successor of view " + describe(installed_->record.view) + " is not agreed on";
  return {};
}

}  // namespace gob
