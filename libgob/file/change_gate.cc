#include "libgob/file/change_gate.h"

#include <algorithm>
#include <utility>

namespace gob::file {

ChangeGate::Begun ChangeGate::begin(Start apply) {
  Begun begun;
  if (giving_ || !parked_.empty())
    later_.push_back(std::move(apply));
  else
    begin(std::move(apply), begun);
  return begun;
}

void ChangeGate::begin(Start apply, Begun& begun) {
  const std::uint64_t number = ++last_;
  Change change{number, std::exchange(holders_, {}),
                [apply = std::move(apply), number] { apply(number); }};
  if (!change.awaited.empty()) {
    begun.number = number;
    begun.ask = change.awaited;
  }
  // Those who were asked for an earlier change, and have not answered, have their leases still. No
  // lease has been given since: the same answer serves.
  for (const Change& earlier : changes_)
    change.awaited.insert(earlier.awaited.begin(), earlier.awaited.end());
  if (change.awaited.empty()) begun.ready.push_back(std::move(change.apply));
  changes_.push_back(std::move(change));
}

ChangeGate::Works ChangeGate::end(std::uint64_t number) {
  std::erase_if(changes_, [&](const Change& each) { return each.number == number; });
  Works leases;
  if (!changes_.empty()) return leases;
  giving_ = !parked_.empty() || !later_.empty();
  for (Parked& each : std::exchange(parked_, {})) {
    if (each.leases && !abandoned_) holders_.insert(each.node);
    const std::uint64_t lease = each.leases ? ++last_ : 0;
    leases.push_back([start = std::move(each.start), lease] { start(lease); });
  }
  return leases;
}

ChangeGate::Begun ChangeGate::given() {
  Begun begun;
  if (!std::exchange(giving_, false)) return begun;
  // The first of them asks for all leases; the others wait for the same answers.
  for (Start& each : std::exchange(later_, {})) begin(std::move(each), begun);
  return begun;
}

std::uint64_t ChangeGate::lease(NodeId node, Start start) {
  if (!changes_.empty()) {
    parked_.push_back({node, std::move(start)});
    return 0;
  }
  if (!abandoned_) holders_.insert(node);
  return ++last_;
}

std::uint64_t ChangeGate::try_lease(NodeId node) {
  if (!changes_.empty()) return 0;
  if (!abandoned_) holders_.insert(node);
  return ++last_;
}

bool ChangeGate::settled(NodeId node, Start start) {
  if (changes_.empty()) return true;
  parked_.push_back({node, std::move(start), false});
  return false;
}

bool ChangeGate::others_hold(NodeId node) const {
  return !changes_.empty() || holders_.size() > holders_.count(node);
}

ChangeGate::Works ChangeGate::acknowledged(NodeId node, std::uint64_t number) {
  const auto asked = std::ranges::find(changes_, number, &Change::number);
  if (asked == changes_.end() || !asked->awaited.contains(node)) return {};
  return no_lease_at(node);
}

// Ends every change's wait for the node.
ChangeGate::Works ChangeGate::no_lease_at(NodeId node) {
  Works ready;
  for (Change& each : changes_)
    if (each.awaited.erase(node) != 0 && each.awaited.empty())
      ready.push_back(std::move(each.apply));
  return ready;
}

ChangeGate::Works ChangeGate::node_gone(NodeId node) {
  holders_.erase(node);
  std::erase_if(parked_, [&](const Parked& each) { return each.node == node; });
  return no_lease_at(node);
}

ChangeGate::Works ChangeGate::abandoned() {
  abandoned_ = true;
  holders_.clear();
  Works ready;
  for (Change& each : changes_) {
    if (each.awaited.empty()) continue;
    each.awaited.clear();
    ready.push_back(std::move(each.apply));
  }
  return ready;
}

}  // namespace gob::file
