// What a node has asked of others for one page, from its own programs' side.
#pragma once

#include <cstdint>

#include "libgob/protocol/event.h"

namespace gob {

struct Pending {
  // What the home of a file asks for on its own account.
  enum class Job : std::uint8_t {
    kNone,
    kWriteBack,  // the file shall have the page's bytes
    kDiscard,    // nobody shall have a copy
  };
  enum class Stage : std::uint8_t {
    kParked,   // not sent: no frame is free, the page is busy here, or the view is changing
    kSent,     // at the manager or beyond
    kGranted,  // kGrant (or kRefuse) is here, acknowledgements or the file are waited for
  };
  Stage stage = Stage::kParked;
  Access access = Access::kRead;  // what was asked for
  Access wanted = Access::kNone;  // what programs here wait for; kNone: asked for ahead only
  bool reserved = false;          // a frame is promised to it
  bool confirm = false;           // kGranted: the manager waits for kConfirm
  bool bytes_here = false;        // kGranted: the page is kStored (else its kRead copy is current)
  std::int32_t acks_missing = 0;  // acknowledgements may arrive before the grant: may be negative
  Refusal refusal = Refusal::kNone;  // kGranted: it is a refusal after all
  NodeId blamed = kNoNode;           // by this node
  Job job = Job::kNone;
  bool device = false;  // kGranted: the file is being read, or (kWriteBack) written
  friend bool operator==(const Pending&, const Pending&) = default;
};

}  // namespace gob
