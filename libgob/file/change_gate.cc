#include "libgob/file/change_gate.h"

#include <algorithm>
#include <utility>

namespace gob::file {

ChangeGate::Begun ChangeGate::begin(std::function<void(std::uint64_t number)> apply) {
  const std::uint64_t number = ++last_;
  Begun begun{number, std::exchange(holders_, {}), false};
  Change change{number, begun.ask, nullptr};
  // Those who were asked for an earlier change, and have not answered, have their leases still. No
  // lease has been given since: the same answer serves.
  for (const Change& earlier : changes_)
    change.awaited.insert(earlier.awaited.begin(), earlier.awaited.end());
  begun.ready = change.awaited.empty();
  if (!begun.ready) change.apply = [apply = std::move(apply), number] { apply(number); };
  changes_.push_back(std::move(change));
  return begun;
}

ChangeGate::Works ChangeGate::end(std::uint64_t number) {
  std::erase_if(changes_, [&](const Change& each) { return each.number == number; });
  Works freed;
  if (!changes_.empty()) return freed;
  for (Parked& each : std::exchange(parked_, {})) freed.push_back(std::move(each.start));
  return freed;
}

std::uint64_t ChangeGate::lease(NodeId node, Work start) {
  if (!changes_.empty()) {
    parked_.push_back({node, std::move(start)});
    return 0;
  }
  holders_.insert(node);
  return ++last_;
}

std::uint64_t ChangeGate::try_lease(NodeId node) {
  if (!changes_.empty()) return 0;
  holders_.insert(node);
  return ++last_;
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

}  // namespace gob::file
