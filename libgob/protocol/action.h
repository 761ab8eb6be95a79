// What the core asks of its host. Actions must be performed in order: an acknowledgement follows
// the invalidation it speaks of. All are about frames of this node; a frame's rights are those of
// every local mapping of it.
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

#include "libgob/base/ids.h"
#include "libgob/protocol/event.h"

namespace gob {
namespace action {

// Send a message. With Payload::kCopy the bytes of message.pages are read from their frames now;
// with Payload::kMove the frames are unmapped everywhere, their bytes sent, and the frames freed.
struct Send {
  NodeId to;
  Message message;
};
// Put bytes into frames: from the current payload (`pages` is a subset of the delivered message's
// set; of a file container also of what a SwapIn has read), or zeros. Then give waiting programs
// `access`; Access::kNone only stores them unmapped.
struct Install {
  PageSet pages;
  Access access = Access::kNone;
  bool zero = false;
};
// The frames are in place: raise the rights of those waiting to `access` (find_page hit, upgrade,
// last acknowledgement, page read from swap).
struct Map {
  PageSet pages;
  Access access = Access::kRead;
};
// Write-protect in every local mapping.
struct Downgrade {
  PageSet pages;
};
// invalidate_page: unmap everywhere, free the frames.
struct Invalidate {
  PageSet pages;
};
// flush_page / first_touch of the I/O linker; answered by SwappedOut / SwappedIn. The frames are
// write-protected before a SwapOut; the host frees them when it succeeded, before the event. Of a
// file container the frames are the core's affair: it says Invalidate and Install itself.
struct SwapOut {
  PageSet pages;
};
struct SwapIn {
  PageSet pages;
};
// free_page: forget what the I/O linker keeps of these pages.
struct FreeSwap {
  PageSet pages;
};
// flush_page of the I/O linker for frames that stay, or for bytes of the current payload that take
// no frame (`arrived`); answered by WrittenBack.
struct WriteBack {
  PageSet pages;
  bool arrived = false;
};
// The end of a WriteBack or Discard for these pages: kNone, or why not.
struct JobDone {
  PageSet pages;
  bool discard = false;
  Refusal refusal = Refusal::kNone;
};
// The end of a Sync: file_pages() knows what the managers know, or why not.
struct Synced {
  ContainerId container;
  Refusal refusal = Refusal::kNone;
};
// Start the hold of Core's configuration on these pages; answered by HoldExpired.
struct Hold {
  PageSet pages;
};
// Waiting programs get an error.
struct Refuse {
  PageSet pages;
  Refusal refusal = Refusal::kNone;
  NodeId node = kNoNode;  // the node to blame
};
// free_page of a whole container: every frame and swap slot of it.
struct DropContainer {
  ContainerId id;
};
// After event::Leave: no page is left here; membership may let the node depart.
struct Left {
  bool stranded = false;  // pages are left, but every other member leaves, too: nobody takes them
};
// The directory for this epoch is rebuilt; the core serves again. At a departing node: its last
// report is sent.
struct Serving {
  Epoch epoch;
};
// A peer sent what no correct peer sends. The host counts, logs once, drops the peer.
struct Violation {
  NodeId from;
  Message message;
  const char* rule;
};

}  // namespace action

using Action =
    std::variant<action::Send, action::Install, action::Map, action::Downgrade, action::Invalidate,
                 action::SwapOut, action::SwapIn, action::FreeSwap, action::Hold, action::Refuse,
                 action::DropContainer, action::Left, action::Serving, action::Violation,
                 action::WriteBack, action::JobDone, action::Synced>;
using Actions = std::vector<Action>;

}  // namespace gob
