// What this node holds of a page: the state that requester and server share. A page without an
// entry is kInvalid. docs/PROTOCOL.md has the table of states against messages.
#pragma once

#include <cstdint>

namespace gob {

enum class PageState : std::uint8_t {
  kInvalid,      // no copy here
  kRead,         // a readable copy; its bytes are the page's current bytes
  kWrite,        // the only copy in the cluster, writable
  kStored,       // bytes arrived, acknowledgements are awaited: nobody may look yet
  kInjecting,    // the last copy, read-only, offered to another node
  kSwappingOut,  // the last copy, read-only, being written by the I/O linker
  kSwapped,      // the last copy, kept by the I/O linker; of a file: wanted, but no frame is free
  kSwappingIn,   // being read back
};

struct LocalPage {
  PageState state = PageState::kInvalid;
  bool held : 1 = false;        // a program was just granted access and must get its turn
  bool flushing : 1 = false;    // kFlush is on its way to the manager
  bool referenced : 1 = false;  // used since the clock hand last passed
  bool dirty : 1 = false;       // file container: the file may be older
  bool shared : 1 = false;      // another node had a copy when last heard of
  bool foreign : 1 = false;     // at the home: dirty by others than this node
  friend bool operator==(const LocalPage&, const LocalPage&) = default;
};
static_assert(sizeof(LocalPage) == 2);

// It takes a frame.
constexpr bool is_resident(PageState state) {
  return state != PageState::kInvalid && state != PageState::kSwapped;
}
// Programs may read the frame.
constexpr bool is_readable(PageState state) {
  return state == PageState::kRead || state == PageState::kWrite ||
         state == PageState::kInjecting || state == PageState::kSwappingOut;
}
// This node answers for the page's bytes alone.
constexpr bool is_sole(PageState state) {
  return state == PageState::kWrite || state == PageState::kSwappingOut ||
         state == PageState::kSwapped || state == PageState::kSwappingIn;
}

}  // namespace gob
