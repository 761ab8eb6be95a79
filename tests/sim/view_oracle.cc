#include "tests/sim/view_oracle.h"

#include <algorithm>

#include "tests/sim/hash.h"

namespace gob::sim {

ViewOracle::ViewOracle(std::uint16_t nodes)
    : lives_(nodes, Life::kUp),
      incarnations_(nodes, 1),
      views_of_(nodes, kNone),
      condemned_(nodes),
      broken_(std::size_t{nodes} * nodes) {}

void ViewOracle::crash(NodeId node) {
  lives_[node.value()] = Life::kDead;
  views_of_[node.value()] = kNone;
  mend(node);
}

// A connection is between two lives.
void ViewOracle::mend(NodeId node) {
  condemned_[node.value()] = 0;
  for (std::size_t other = 0; other < lives_.size(); ++other) {
    broken_[node.value() * lives_.size() + other] = 0;
    broken_[other * lives_.size() + node.value()] = 0;
  }
}

void ViewOracle::disconnect(NodeId stays, NodeId loser) {
  broken_[stays.value() * lives_.size() + loser.value()] = 1;
  broken_[loser.value() * lives_.size() + stays.value()] = 1;
  condemned_[loser.value()] = 1;
}

void ViewOracle::fence(NodeId node) { crash(node); }

void ViewOracle::restart(NodeId node) {
  lives_[node.value()] = Life::kUp;
  views_of_[node.value()] = kNone;
  ++incarnations_[node.value()];
}

void ViewOracle::left(NodeId node) {
  if (!cut_off(node)) lives_[node.value()] = Life::kLeft;
}

void ViewOracle::served(NodeId node) {
  Record& record = records_[view_of(node)];
  record.served[node.value()] = 1;
  if (!is_established(record)) return;
  // The members need nothing more of those who depart.
  for (const NodeId departing : record.view.departing) {
    if (lives_[departing.value()] != Life::kLeft || view_of(departing) != view_of(node)) continue;
    lives_[departing.value()] = Life::kGone;
    views_of_[departing.value()] = kNone;
  }
}

void ViewOracle::enter(NodeId node, unsigned view) { views_of_[node.value()] = view; }

bool ViewOracle::names(const Record& record, unsigned node) const {
  return record.incarnation[node] != 0 && record.incarnation[node] == incarnations_[node] &&
         runs(NodeId{static_cast<std::uint16_t>(node)});
}

bool ViewOracle::is_established(const Record& record) const {
  return std::all_of(record.view.members.begin(), record.view.members.end(),
                     [&](NodeId node) { return record.served[node.value()] != 0; });
}

// A member whose report may not have reached everyone takes its directory with it. Until a view is
// established everywhere, the managers of the views before it count as well.
unsigned ViewOracle::propose() {
  const auto nodes = static_cast<unsigned>(lives_.size());
  for (unsigned i = 0; i < nodes; ++i) {
    if (condemned_[i] != 0) lives_[i] = Life::kCutOff;
    condemned_[i] = 0;
  }
  Record next;
  next.incarnation.resize(nodes);
  next.served.resize(nodes);
  next.view.epoch = Epoch{records_.size() + 1};
  for (unsigned i = 0; i < nodes; ++i) {
    const NodeId node{static_cast<std::uint16_t>(i)};
    if (lives_[i] == Life::kUp) next.view.members.push_back(node);
    if (lives_[i] == Life::kLeft) next.view.departing.push_back(node);
    if (alive(node)) next.incarnation[i] = incarnations_[i];
  }
  if (!records_.empty()) {
    next.view.losses = records_.back().view.losses;
    std::size_t base = records_.size() - 1;
    while (base > 0 && !is_established(records_[base])) --base;
    for (; base < records_.size(); ++base) {
      const Record& before = records_[base];
      Loss loss;
      loss.epoch = next.view.epoch;
      loss.members = before.view.members;
      for (NodeId node : before.view.members)
        if (!names(before, node.value()) || cut_off(node)) loss.dead.push_back(node);
      if (!loss.dead.empty()) next.view.losses.push_back(std::move(loss));
    }
  }
  records_.push_back(std::move(next));
  return views() - 1;
}

bool ViewOracle::may_enter(NodeId node, unsigned view) const {
  const unsigned now = view_of(node);
  return names(records_[view], node.value()) && (now == kNone || view > now);
}

bool ViewOracle::is_outdated() const {
  if (records_.empty()) return true;
  const Record& last = records_.back();
  for (unsigned i = 0; i < lives_.size(); ++i) {
    const NodeId node{static_cast<std::uint16_t>(i)};
    const bool named = last.incarnation[i] != 0 && last.incarnation[i] == incarnations_[i];
    if (condemned_[i] != 0) return true;
    if (lives_[i] == Life::kUp && !named) return true;
    if (lives_[i] == Life::kLeft && !last.view.departs(node)) return true;
    if (lives_[i] == Life::kDead && named) return true;
    // It went when an earlier view was served everywhere, and will not speak in this one.
    if (lives_[i] == Life::kGone && named && !is_established(last)) return true;
  }
  return false;
}

bool ViewOracle::connected(NodeId from, NodeId to) const {
  const unsigned view = view_of(from);
  return view != kNone && names(records_[view], to.value()) && !broken(from, to);
}

bool ViewOracle::mourns(NodeId node) const {
  const unsigned view = view_of(node);
  if (view == kNone) return false;
  for (unsigned i = 0; i < lives_.size(); ++i) {
    const std::uint8_t named = records_[view].incarnation[i];
    if (named == 0) continue;
    if (named != incarnations_[i] || lives_[i] >= Life::kDead || condemned_[i] != 0) return true;
  }
  return cut_off(node);
}

bool ViewOracle::is_cut(NodeId from, NodeId at) const {
  if (alive(from)) return false;
  const unsigned view = view_of(at);
  return view == kNone || records_[view].incarnation[from.value()] != incarnations_[from.value()];
}

bool ViewOracle::settled() const {
  if (records_.empty() || is_outdated()) return false;
  const unsigned last = views() - 1;
  for (unsigned i = 0; i < lives_.size(); ++i) {
    if (lives_[i] >= Life::kGone) continue;
    if (views_of_[i] != last || records_[last].served[i] == 0) return false;
  }
  return true;
}

std::uint64_t ViewOracle::hash() const {
  Hash hash;
  for (const Life life : lives_) hash.add(static_cast<std::uint64_t>(life));
  for (const std::uint8_t number : incarnations_) hash.add(number);
  for (const unsigned view : views_of_) hash.add(view);
  for (const std::uint8_t condemned : condemned_) hash.add(condemned);
  for (const std::uint8_t broken : broken_) hash.add(broken);
  for (const Record& record : records_) {
    hash.add(record.view.members.size());
    for (const NodeId node : record.view.members) hash.add(node.value());
    for (const NodeId node : record.view.departing) hash.add(node.value());
    hash.add(record.view.losses.size());
    for (const std::uint8_t served : record.served) hash.add(served);
  }
  return hash.value();
}

}  // namespace gob::sim
