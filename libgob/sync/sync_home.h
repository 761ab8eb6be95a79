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

  // A request of `from` (its party names that node).
  void handle(const SyncMessage& message, const Reply& reply);
  // All that existed; for a view change. Locks whose holder is not among `alive` come back in
  // `orphans`.
  void reset(const std::vector<NodeId>& alive, std::vector<std::string>& orphans);

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
    bool timed_out = false;  // of a condition wait that ended while the lock was held
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
    [[nodiscard]] bool idle() const {
      return !held && !owner_died && queue.empty() && conds.empty();
    }
  };

  void on_barrier(const SyncMessage& message, const Reply& reply);
  void break_barrier(const std::string& name, const Reply& reply);
  void on_lock(const SyncMessage& message, const Reply& reply);
  void on_unlock(const SyncMessage& message, const Reply& reply);
  void on_cond_wait(const SyncMessage& message, const Reply& reply);
  void on_cond_notify(const SyncMessage& message, const Reply& reply);
  void on_cancel(const SyncMessage& message, const Reply& reply);
  void grant_next(const std::string& name, Lock& lock, const Reply& reply);
  void forget_if_idle(const std::string& name);
  static void answer(const Waiter& waiter, SyncResult result, const Reply& reply,
                     std::vector<NodeId> nodes = {});

  std::map<std::string, Barrier> barriers_;
  std::map<std::string, Lock> locks_;
};

}  // namespace gob
