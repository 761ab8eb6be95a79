// SyncHome: the barriers, locks and condition variables that one node is home of. Pure: messages
// in, replies out. Objects that nobody waits for or holds do not exist, so nothing leaks. The
// control thread owns it.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "libgob/sync/sync_message.h"

namespace gob {

class SyncHome {
 public:
  using Reply = std::function<void(NodeId to, SyncMessage reply)>;

  // A request of its party's node: kBarrier ... kCancel.
  void handle(const SyncMessage& message, const Reply& reply);
  // What a member said when it registered, before any request of the view.
  void restore_held(const std::string& name, const SyncParty& holder);
  void restore_orphan(const std::string& name);

  // Forgets all for a view change. Returns the locks whose holder is not on one of `alive`
  // (ascending), or whose death nobody was told of yet.
  std::set<std::string> reset(const std::vector<NodeId>& alive);

  [[nodiscard]] std::size_t objects() const { return barriers_.size() + locks_.size(); }

 private:
  struct Waiter {
    SyncParty party;
    std::uint64_t request = 0;
    friend bool operator==(const Waiter&, const Waiter&) = default;
  };
  struct Barrier {
    std::uint32_t count = 0;
    std::vector<Waiter> arrived;
  };
  struct LockWaiter {
    Waiter waiter;
    bool after_wait = false;  // it comes from a condition
    bool timed_out = false;   // of a condition wait that ended while the lock was held
  };
  struct CondWaiter {
    std::string cond;
    Waiter waiter;
  };
  struct Lock {
    bool held = false;
    SyncParty holder;
    bool owner_died = false;  // tell the next holder
    std::deque<LockWaiter> queue;
    std::deque<CondWaiter> conds;
    [[nodiscard]] bool idle() const { return !held && queue.empty() && conds.empty(); }
  };
  using Locks = std::map<std::string, Lock>;

  void on_barrier(const SyncMessage& message, const Reply& reply);
  void on_lock(const SyncMessage& message, const Reply& reply);
  void on_unlock(const SyncMessage& message, const Reply& reply);
  void on_cond_wait(const SyncMessage& message, const Reply& reply);
  void on_cond_notify(const SyncMessage& message, const Reply& reply);
  void on_cancel(const SyncMessage& message, const Reply& reply);
  bool cancel_barrier(const SyncMessage& message, const Reply& reply);
  void grant_next(Locks::iterator lock, const Reply& reply);
  void forget_if_idle(Locks::iterator lock);
  static void answer(const Waiter& waiter, SyncResult result, const Reply& reply);

  std::map<std::string, Barrier> barriers_;
  Locks locks_;
  std::deque<std::string> orphans_;  // locks that exist only to tell of a death, oldest first
};

}  // namespace gob
