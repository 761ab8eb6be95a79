// LockTable: the locks that programs of all nodes hold on one file, record locks (fcntl) and whole
// file locks (flock) apart from each other, and who waits for one. Pure value; the file service
// guards it.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "libgob/base/ids.h"

namespace gob::file {

enum class LockType : std::uint8_t { kUnlock, kRead, kWrite };

// Who holds a lock: an owner as its node's kernel names it.
struct LockOwner {
  NodeId node;
  std::uint64_t owner = 0;
  bool flock = false;  // the two kinds never meet
  friend auto operator<=>(const LockOwner&, const LockOwner&) = default;
};

struct LockRange {
  std::uint64_t first = 0;
  std::uint64_t last = ~std::uint64_t{0};  // inclusive
  LockType type = LockType::kUnlock;
  std::uint32_t pid = 0;
  friend bool operator==(const LockRange&, const LockRange&) = default;
};

class LockTable {
 public:
  // The lock that keeps `owner` from having `wanted`, if there is one.
  [[nodiscard]] std::optional<LockRange> conflict(const LockOwner& owner,
                                                  const LockRange& wanted) const;
  // Gives, changes or (kUnlock) takes away the owner's rights to a range, as fcntl does: what it
  // held there before is replaced, neighbours of one type are joined. False if another owner is in
  // the way: nothing changed.
  bool set(const LockOwner& owner, const LockRange& wanted);
  void drop(const LockOwner& owner);
  void drop_node(NodeId node);

  // A process takes its locks along to another node (docs/decisions/0045): it holds them there as
  // well before it has them no more here, so that nobody gets one in between. What
  // `owner` holds is offered to node `to`, and to no other any more. False: that is nothing.
  bool offer(const LockOwner& owner, NodeId to);
  // As set(), but what `first` holds is not in the way. False: it is not offered to the owner's
  // node, or not held by `first` as a whole, or another one joined before, or is in the way.
  bool join(const LockOwner& owner, const LockRange& wanted, const LockOwner& first);
  // It stays: whoever joined holds nothing any more.
  void keep(const LockOwner& first);
  // It has moved to `to`: only who joined holds it from now on. Nothing happens if it is not
  // offered, as after the end of `first`.
  void moved(const LockOwner& first, NodeId to);

  // A request that waits, by its node and number. take_grantable() gives the first that can be
  // granted now, and grants it.
  struct Waiter {
    LockOwner owner;
    LockRange wanted;
    std::uint64_t request = 0;
  };
  void wait(const Waiter& waiter) { waiters_.push_back(waiter); }
  // False if it does not wait (any more).
  bool cancel(NodeId node, std::uint64_t request);
  std::optional<Waiter> take_grantable();

  [[nodiscard]] bool empty() const { return held_.empty() && waiters_.empty() && offers_.empty(); }
  // In order; neighbours of one type are one.
  [[nodiscard]] std::vector<LockRange> held_by(const LockOwner& owner) const;

 private:
  struct Held {
    LockOwner owner;
    LockRange range;
  };
  struct Offer {
    LockOwner first;
    NodeId to;
    std::optional<LockOwner> joined;
  };
  // `also`: whose locks are not in the way either.
  [[nodiscard]] const Held* in_the_way(const LockOwner& owner, const LockRange& wanted,
                                       const LockOwner* also) const;
  void put(const LockOwner& owner, const LockRange& wanted);
  [[nodiscard]] std::vector<Offer>::iterator offer_of(const LockOwner& first);

  std::vector<Held> held_;
  std::deque<Waiter> waiters_;
  std::vector<Offer> offers_;
};

}  // namespace gob::file
