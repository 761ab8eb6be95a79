// Shared by the builders of situations: who is who, hints of room, edits of messages. Test support.
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "tests/protocol/situations.h"

namespace gob::test {

using Build = std::function<void(CoreDriver&)>;

inline constexpr unsigned kNodes = 4;
inline constexpr std::uint32_t kRoom = 100;  // hint of node O, the one that has room
inline constexpr unsigned kR = 2;
inline constexpr unsigned kO = 3;

inline std::string role_name(NodeId node, const char* self, const char* first) {
  switch (node.value()) {
    case 0:
      return self;
    case 1:
      return first;
    case 2:
      return "R";
    case 3:
      return "O";
    case 4:
      return "D";
    default:
      return "nobody";
  }
}
// Every peer's hint is as its next message will say, so that nothing but the answer changes.
inline void say_room(CoreDriver& d) {
  for (unsigned peer : {1u, 2u, 3u})
    d.deliver(peer, message(MessageType::kReportEnd, PageSet{},
                            [=](Message& m) { m.free_frames = peer == kO ? kRoom : 0; }));
}
// The builder of a row ends with the hints in place.
inline Build with_room(const Build& build) {
  return [=](CoreDriver& d) {
    build(d);
    say_room(d);
  };
}

inline Edit edits(std::initializer_list<Edit> list) {
  return [all = std::vector<Edit>(list)](Message& m) {
    for (const Edit& edit : all) edit(m);
  };
}
inline Edit payload(Payload p) {
  return [=](Message& m) { m.payload = p; };
}
inline Edit for_node(unsigned n) {
  return [=](Message& m) { m.requester = node(n); };
}
inline Edit acks(std::uint32_t n) {
  return [=](Message& m) { m.acks = n; };
}
inline Edit refusal(Refusal r) {
  return [=](Message& m) { m.refusal = r; };
}
inline Edit node_is(unsigned n) {
  return [=](Message& m) { m.node = node(n); };
}
inline Edit epoch(std::uint64_t e) {
  return [=](Message& m) { m.epoch = Epoch{e}; };
}
inline const Edit kNothing = [](Message&) {};
inline const Edit kConfirmed = [](Message& m) { m.confirm = true; };
inline const Edit kSole = [](Message& m) { m.sole = true; };
inline const Edit kAccepted = [](Message& m) { m.accepted = true; };
inline const Edit kAhead = [](Message& m) { m.ahead = m.pages.mask; };
inline const Edit kHasRoom = [](Message& m) { m.free_frames = kRoom; };

inline void tell(CoreDriver& d, unsigned from, MessageType type, std::uint64_t index,
                 std::initializer_list<Edit> list = {}) {
  d.deliver(from, message(type, PageSet::of(page(index)), edits(list)));
}

inline void nothing(CoreDriver&) {}
inline void removed(CoreDriver& d) { d.remove(); }

}  // namespace gob::test
