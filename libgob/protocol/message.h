// What one core says to another. Page bytes are not here: `payload` says which host action carries
// them. The table of every message against every state is docs/PROTOCOL.md.
#pragma once

#include <cstdint>

#include "libgob/base/ids.h"
#include "libgob/base/page_set.h"

namespace gob {

enum class MessageType : std::uint8_t {
  kGet = 1,        // requester -> manager: a readable copy, please (get_page)
  kGrab,           // requester -> manager: the only copy, please (grab_page)
  kForwardGet,     // manager -> owner: send `requester` a copy
  kForwardGrab,    // manager -> owner: give `requester` the page; it waits for `acks`
  kInvalidate,     // manager -> holder: drop your copy, then acknowledge to `requester`
  kInvalidateAck,  // holder -> requester: no program here can read the page any more;
                   // home -> requester: it knows that the page gets newer than its file
  kPage,           // server -> requester: a readable copy (payload)
  kGrant,          // server or manager -> requester: write access after `acks` acknowledgements
  kConfirm,        // requester -> manager: the access is in place
  kRefuse,         // anyone -> requester: `refusal` says why, `node` who is to blame
  kFlush,          // requester -> manager: I want to drop these pages (flush_page)
  kFlushDiscard,   // manager -> requester: others hold it: drop your copy, if you have one
  kFlushAlone,     // manager -> requester: yours is the last copy: inject it or swap it out
  kInject,         // requester -> node with room: take this last copy (payload)
  kInjectReply,    // its answer: `accepted`
  kFlushDone,      // requester -> manager: `node` owns it now; kNoNode: a copy was dropped
  kMarker,         // to all, at a view change: nothing of an older epoch follows on this channel
  kReport,         // holder or old manager -> new manager: what I know of these pages
  kReportEnd,      // to all members: that was all
  // File containers; the home is the node whose I/O linker has the file.
  kWriteBack,  // home -> manager: a readable copy, please, if the file is older
  kDiscard,    // home -> manager: all copies shall go, written or not
  kSync,       // home -> manager: say what you have not told yet; `sole`: and which pages exist
  kSyncEnd,    // its answer, after all kExists
  kExists,     // manager -> home: these pages are in memory; `dirty`: newer than the file
};
inline constexpr MessageType kLastMessageType = MessageType::kExists;

enum class Payload : std::uint8_t {
  kNone,
  kCopy,  // bytes are read from the frames, which stay
  kMove,  // bytes leave with the message: frames are unmapped first, then read, then freed
  kZero,  // no bytes travel: the receiver makes zero pages
};

// Why a request was refused. The program sees an errno (docs/PROTOCOL.md).
enum class Refusal : std::uint8_t {
  kNone,
  kSkipped,   // a page asked for ahead of need is not to be had cheaply; nobody is told
  kLost,      // its bytes died with `node`
  kTimedOut,  // no answer in time from `node`
  kRemoved,   // the container is gone
  kNoRoom,    // no frame, no room elsewhere, no swap
  kIo,        // the I/O linker could not read or write the page
  kLeaving,   // this node is shutting down
  kRange,     // beyond the end of the container
};

// What a node knows of a page when the directory is rebuilt.
enum class Holding : std::uint8_t {
  kExisted,  // it was in my directory
  kLost,     // it was lost before; `node` is to blame
  kRead,     // I hold a readable copy
  kSole,     // I hold the only copy (writable, swapped out, or being so)
};

struct Message {
  MessageType type = MessageType::kGet;
  Payload payload = Payload::kNone;
  Refusal refusal = Refusal::kNone;
  Holding holding = Holding::kExisted;
  bool confirm = false;        // kPage, kGrant, kRefuse: the manager waits for kConfirm;
                               // kFlushDiscard: for kFlushDone
  bool sole = false;           // kFlushAlone: certainly no other copy, it may be swapped out;
                               // kSync, kExists: a list is wanted, or given;
                               // kReport: dirty by others than the home
  bool accepted = false;       // kInjectReply
  bool leaving = false;        // kInject, kInjectReply: the sender is shutting down
  bool device = false;         // kForward*, kPage, kGrant: the file has the only copy: read it;
                               // kInject: to the home, which has to take it; kInjectReply:
                               // from it: offer the page again, there is room;
                               // kInvalidate: of a kDiscard, so also of the only copy;
                               // kConfirm: from the home, which keeps no copy
  bool dirty = false;          // kPage, kGrant, kInject, kReport, kExists, kFlushAlone: newer than
                               // the file; kInvalidateAck: of such a kExists, not of an invalidation
  bool written = false;        // kConfirm, kFlushDone: the file has these bytes now
  NodeId requester = kNoNode;  // kForward*, kInvalidate*: on whose behalf; kExists: who will write
  NodeId node = kNoNode;       // kFlushDone: new owner; kRefuse, kReport: the node to blame
  std::uint32_t acks = 0;      // kForwardGrab, kGrant, kRefuse: acknowledgements to collect
  std::uint32_t free_frames = 0;  // hint on every message: room at the sender, in pages
  Epoch epoch;
  PageSet pages;            // all fields above hold for every page of the set
  std::uint64_t ahead = 0;  // kGet, kGrab: those of `pages` that nobody waits for

  friend bool operator==(const Message&, const Message&) = default;
};

constexpr bool carries_bytes(const Message& message) {
  return message.payload == Payload::kCopy || message.payload == Payload::kMove;
}

}  // namespace gob
