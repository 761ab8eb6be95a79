// What the sync services of two nodes say to each other: one flat message, most fields used by a
// few kinds only. Values: no thread affinity.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "libgob/base/ids.h"

namespace gob {

// Who acts: a thread of a program of a node.
struct SyncParty {
  NodeId node;
  std::uint64_t client = 0;  // connection at its gobd
  std::uint64_t holder = 0;  // thread of the program
  friend auto operator<=>(const SyncParty&, const SyncParty&) = default;
};

enum class SyncKind : std::uint8_t {
  // node -> home
  kBarrier = 1,  // `name`, `count`
  kLock,         // `name`; `died`: asked before, of a home that died
  kTryLock,      // kLock that does not queue
  kUnlock,       // `name`; `died`: the holder is gone. Answered if it has a `request`
  kCondWait,     // `name` is the condition, `lock` its lock, which the party holds
  kCondSignal,   // `name`, `lock`
  kCondBroadcast,
  kCancel,  // `request`: it waited too long; `died`: its client or one it meets is gone
  // node -> nodes of a barrier's participants
  kBarrierLeave,  // `name`, `count`: a program that took part in this round is gone; `died`: for
                  // one that did, the next round broke, which may have opened for others
  // home -> node
  kReply,  // `request`, `result`; to kBarrier `nodes` and `count`: the round's number
  // at a view change
  kHeld,        // to the new home: the party holds the lock `name`
  kOrphaned,    // to the new home: the holder of the lock `name` died
  kRegistered,  // to all: that was all that I hold and wait for
  kMarker,      // to all: no answer of an older view follows
};
inline constexpr SyncKind kLastSyncKind = SyncKind::kMarker;

enum class SyncResult : std::uint8_t {
  kOk,
  kOkLast,       // kBarrier: this one completed the round
  kOkOwnerDied,  // kLock, kCondWait: granted, but the previous holder died
  kTimedOut,
  kBusy,      // kTryLock
  kNotHeld,   // kUnlock, kCondWait: the party does not hold the lock
  kMismatch,  // kBarrier: others wait with another count
  kBroken,    // kBarrier: a participant died
  kDeadlock,  // kLock: the party holds it already
  kOverload,  // too many objects or waiters at the home
};
inline constexpr SyncResult kLastSyncResult = SyncResult::kOverload;

struct SyncMessage {
  SyncKind kind = SyncKind::kBarrier;
  SyncResult result = SyncResult::kOk;
  bool died = false;
  Epoch epoch;
  std::uint64_t request = 0;  // chosen by the requesting node, never reused by it
  SyncParty party;
  std::uint32_t count = 0;
  std::string name;
  std::string lock;
  std::vector<NodeId> nodes;  // kReply to kBarrier: who took part in the round, ascending
  friend bool operator==(const SyncMessage&, const SyncMessage&) = default;
};

}  // namespace gob
