#include "libgob/file/change_gate.h"

#include <utility>

namespace gob::file {

ChangeGate::Begun ChangeGate::begin(std::function<void(std::uint64_t number)> apply) {
  const std::uint64_t number = ++last_;
  Change change{number, std::exchange(holders_, {}), nullptr};
  const std::set<NodeId> ask = change.awaited;
  if (!ask.empty()) change.apply = [apply = std::move(apply), number] { apply(number); };
  changes_.push_back(std::move(change));
  return {number, ask};
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
  Works ready;
  for (Change& each : changes_)
    if (each.number == number && each.awaited.erase(node) != 0 && each.awaited.empty())
      ready.push_back(std::move(each.apply));
  return ready;
}

ChangeGate::Works ChangeGate::node_gone(NodeId node) {
  holders_.erase(node);
  std::erase_if(parked_, [&](const Parked& each) { return each.node == node; });
  Works ready;
  for (Change& each : changes_)
    if (each.awaited.erase(node) != 0 && each.awaited.empty())
      ready.push_back(std::move(each.apply));
  return ready;
}

}  // namespace gob::file
