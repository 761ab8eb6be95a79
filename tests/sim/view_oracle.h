// Membership without messages: knows who is alive, hands out the same sequence of views to
// everyone, and records what each view lost. Stands for libgob/membership in the simulator and the
// explorer. A regular value; one thread owns it.
#pragma once

#include <cstdint>
#include <vector>

#include "libgob/protocol/view.h"

namespace gob::sim {

class ViewOracle {
 public:
  enum class Life : std::uint8_t {
    kUp,
    kLeft,    // holds no page any more; departs with the next view, stays until all members serve
    kGone,    // departed
    kDead,    // crashed, or cut off and fenced
    kCutOff,  // its view goes on without it: the others count it as dead, it does not know yet
  };
  // A view and which life of each node it speaks of; 0 for nodes that it does not name.
  struct Record {
    View view;
    std::vector<std::uint8_t> incarnation;
    std::vector<std::uint8_t> served;  // by node: it says the view is established
    friend bool operator==(const Record&, const Record&) = default;
  };

  explicit ViewOracle(std::uint16_t nodes);

  void crash(NodeId node);
  void restart(NodeId node);  // empty, with a new incarnation
  void left(NodeId node);
  // The connection of two members is lost, for ever. The next view goes on without `loser`.
  void disconnect(NodeId stays, NodeId loser);
  void fence(NodeId node);   // it learns that it was cut off, and ends
  void served(NodeId node);  // established at the node, in the view it is in
  // The next view, of all who are up; returns its number.
  unsigned propose();
  void enter(NodeId node, unsigned view);

  [[nodiscard]] unsigned views() const { return static_cast<unsigned>(records_.size()); }
  [[nodiscard]] const View& view(unsigned number) const { return records_[number].view; }
  [[nodiscard]] Life life(NodeId node) const { return lives_[node.value()]; }
  // One of the cluster, as the latest view or the next one sees it.
  [[nodiscard]] bool alive(NodeId node) const { return lives_[node.value()] < Life::kGone; }
  // Its programs run: a member, or one that was cut off and goes on by itself.
  [[nodiscard]] bool runs(NodeId node) const {
    return alive(node) || lives_[node.value()] == Life::kCutOff;
  }
  [[nodiscard]] bool cut_off(NodeId node) const { return lives_[node.value()] == Life::kCutOff; }
  // The next view will go on without it.
  [[nodiscard]] bool condemned(NodeId node) const { return condemned_[node.value()] != 0; }
  [[nodiscard]] bool broken(NodeId a, NodeId b) const {
    return broken_[a.value() * lives_.size() + b.value()] != 0;
  }
  // The number of the view a node is in; kNone before its first.
  static constexpr unsigned kNone = ~0u;
  [[nodiscard]] unsigned view_of(NodeId node) const { return views_of_[node.value()]; }
  // A node may be told of a view that names its present life and is later than its own.
  [[nodiscard]] bool may_enter(NodeId node, unsigned view) const;
  // Who is up and whom the latest view names differ.
  [[nodiscard]] bool is_outdated() const;
  // What `from` sends reaches `to`: the view of `from` names the life that `to` has now.
  [[nodiscard]] bool connected(NodeId from, NodeId to) const;
  // The node's view names a node that has died or lost a connection, or it is that node.
  [[nodiscard]] bool mourns(NodeId node) const;
  // What a dead node sent is dropped by one who enters a view without that life of it.
  [[nodiscard]] bool is_cut(NodeId from, NodeId at) const;
  // Every node that is up is in the latest view and serves.
  [[nodiscard]] bool settled() const;

  [[nodiscard]] std::uint64_t hash() const;
  friend bool operator==(const ViewOracle&, const ViewOracle&) = default;

 private:
  [[nodiscard]] bool is_established(const Record& record) const;
  // The record speaks of the life that the node has now.
  [[nodiscard]] bool names(const Record& record, unsigned node) const;
  void mend(NodeId node);

  std::vector<Life> lives_;
  std::vector<std::uint8_t> incarnations_;
  std::vector<unsigned> views_of_;
  std::vector<Record> records_;
  std::vector<std::uint8_t> condemned_;
  std::vector<std::uint8_t> broken_;  // [a * nodes + b], both ways
};

}  // namespace gob::sim
