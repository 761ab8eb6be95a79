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
  kLock,         // `name`; kTry: do not queue
  kTryLock,
  kUnlock,      // `name`; `died`: the holder is gone
  kCondWait,    // `name` is the condition, `lock` its lock, which the party holds
  kCondSignal,  // `name`, `lock`
  kCondBroadcast,
  kCancel,        // `request`: it waited too long, or its client is gone
  kBarrierLeave,  // `name`: a program that used the barrier is gone
  // home -> node
  kReply,  // `request`, `result`, `nodes`
  // at a view change, to the new home
  kHeld,        // `name`: the party holds this lock
  kOrphaned,    // `name`: its holder's node died
  kRegistered,  // to all: that was all
};
inline constexpr SyncKind kLastSyncKind = SyncKind::kRegistered;

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
  std::vector<NodeId> nodes;  // kReply to kBarrier: who took part in the round
  friend bool operator==(const SyncMessage&, const SyncMessage&) = default;
};

}  // namespace gob
