// What a host tells the core. `Core::step` takes one event and answers with actions.
#pragma once

#include <cstdint>
#include <variant>

#include "libgob/base/ids.h"
#include "libgob/base/page_set.h"
#include "libgob/protocol/message.h"
#include "libgob/protocol/view.h"

namespace gob {

enum class Access : std::uint8_t { kNone, kRead, kWrite };

// Rights that containers give; see libgob/container for names and owners.
struct ContainerInfo {
  ContainerId id;
  std::uint64_t pages = 0;  // size
  Epoch created;            // the epoch in which it was made
  NodeId home = kNoNode;    // file container: the node whose I/O linker holds pages no node does
  friend bool operator==(const ContainerInfo&, const ContainerInfo&) = default;
};

// Its pages have a device of their own: the file on its home node.
constexpr bool is_file(const ContainerInfo& info) { return info.home != kNoNode; }

namespace event {

// A peer's message arrived; its page bytes, if any, are the host's "current payload".
struct Deliver {
  NodeId from;
  Message message;
  bool frames = true;  // for the bytes of kInject; false counts as memory that is full
};
// A program waits for `wanted` (figures 2 and 3: first_touch, copy_on_write). `ahead` pages of the
// same stripe are asked for with it, but nobody waits for them.
struct Touch {
  PageSet wanted;
  Access access = Access::kRead;
  std::uint64_t ahead = 0;  // mask
};
// The host's clock: programs have waited too long for these pages.
struct Expire {
  PageSet pages;
};
// The host's clock: the hold announced by action::Hold is over.
struct HoldExpired {
  PageSet pages;
};
// Someone outside wants these pages out of this node's memory (tests, administrators).
struct Flush {
  PageSet pages;
};
// The I/O linker finished a SwapOut / SwapIn.
struct SwappedOut {
  PageSet pages;
  bool ok = true;
};
struct SwappedIn {
  PageSet pages;
  bool ok = true;
};
// Membership installed a view. The first one starts the core.
struct NewView {
  View view;
};
struct AddContainer {
  ContainerInfo info;
};
struct RemoveContainer {
  ContainerId id;
};
// Hand every page to the others and refuse new accesses; answered by action::Left. The host repeats
// it (nodes that had no room may have some now) until then.
struct Leave {};

// At the home of a file container. The file shall have the newest bytes of these pages (paper
// figure 5); no node shall have a copy of them. Each page is answered by action::JobDone.
struct WriteBack {
  PageSet pages;
};
struct Discard {
  PageSet pages;
};
// The I/O linker finished an action::WriteBack.
struct WrittenBack {
  PageSet pages;
  bool ok = true;
};
// At the home: have the managers say what they know of the file's pages; answered by
// action::Synced, before which no second one for the container may come. `list`: also pages that
// are not newer than the file.
struct Sync {
  ContainerId container;
  bool list = false;
};

}  // namespace event

using Event = std::variant<event::Deliver, event::Touch, event::Expire, event::HoldExpired,
                           event::Flush, event::SwappedOut, event::SwappedIn, event::NewView,
                           event::AddContainer, event::RemoveContainer, event::Leave,
                           event::WriteBack, event::Discard, event::WrittenBack, event::Sync>;

}  // namespace gob
