// ChangeGate: at the home of a file, the order of changes of its size and of leases on it. A change
// is made once every node with a lease has given it back; a lease that is asked for meanwhile waits
// for the change. They take turns: while a lease waits no more changes begin, and those begin once
// it was given, so that neither many writers nor many readers keep the others waiting. Pure state;
// the file service guards it.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <set>
#include <vector>

#include "libgob/base/ids.h"

namespace gob::file {

class ChangeGate {
 public:
  using Work = std::function<void()>;
  using Works = std::vector<Work>;

  // Called with the number of a change, or of a lease.
  using Start = std::function<void(std::uint64_t number)>;

  struct Begun {
    std::uint64_t number = 0;
    std::set<NodeId> ask;  // to give their leases back, under `number`
    Works ready;           // changes that may be made now: nobody has a lease
  };
  // `apply` comes out of this, of given(), acknowledged() or node_gone(). While nodes are being
  // asked for an earlier change, this one waits for them, too.
  [[nodiscard]] Begun begin(Start apply);
  // The change is made: leases that waited and are given by this. Once their nodes are told, or at
  // once if there are none, given() is to be called.
  [[nodiscard]] Works end(std::uint64_t number);
  // The changes that waited for those leases.
  [[nodiscard]] Begun given();

  // The number of the lease, if it is given now; else 0, and `start` comes out of end().
  std::uint64_t lease(NodeId node, Start start);

  // The same, but it is not waited for.
  std::uint64_t try_lease(NodeId node);

  // True: no change is under way. Else `start` comes out of end(), with 0, when none is any more,
  // and those that come later have not begun.
  bool settled(NodeId node, Start start);

  // Whether another node has a lease, or may have one that it is asked for.
  [[nodiscard]] bool others_hold(NodeId node) const;

  // The node has no lease of before the change. What may be done now.
  [[nodiscard]] Works acknowledged(NodeId node, std::uint64_t number);
  // The node is gone, and its lease.
  [[nodiscard]] Works node_gone(NodeId node);
  // No node knows the file any more, so none has a lease.
  [[nodiscard]] Works abandoned();

 private:
  struct Change {
    std::uint64_t number = 0;
    std::set<NodeId> awaited;
    Work apply;
  };
  struct Parked {
    NodeId node;
    Start start;
    bool leases = true;  // else it only waits
  };
  void begin(Start apply, Begun& begun);
  Works no_lease_at(NodeId node);

  std::set<NodeId> holders_;
  std::list<Change> changes_;
  std::list<Parked> parked_;
  std::list<Start> later_;  // changes that wait for parked_, or for given()
  bool abandoned_ = false;  // so nobody becomes a holder any more
  bool giving_ = false;     // given() is to come; there are no changes_
  std::uint64_t last_ = 0;  // changes and leases are numbered together
};

}  // namespace gob::file
