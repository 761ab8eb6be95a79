// Words for traces.
#include "libgob/protocol/message_name.h"
#include "tests/sim/host_model.h"

namespace gob::sim {

const char* name_of(MessageType type) { return to_words(type); }

const char* name_of(Access access) {
  switch (access) {
    case Access::kNone:
      return "none";
    case Access::kRead:
      return "read";
    case Access::kWrite:
      return "write";
  }
  return "?";
}

const char* name_of(PageState state) {
  switch (state) {
    case PageState::kInvalid:
      return "invalid";
    case PageState::kRead:
      return "read";
    case PageState::kWrite:
      return "write";
    case PageState::kStored:
      return "stored";
    case PageState::kInjecting:
      return "injecting";
    case PageState::kSwappingOut:
      return "swapping-out";
    case PageState::kSwapped:
      return "swapped";
    case PageState::kSwappingIn:
      return "swapping-in";
  }
  return "?";
}

const char* name_of(Refusal refusal) {
  switch (refusal) {
    case Refusal::kNone:
      return "none";
    case Refusal::kSkipped:
      return "skipped";
    case Refusal::kLost:
      return "lost";
    case Refusal::kTimedOut:
      return "timed-out";
    case Refusal::kRemoved:
      return "removed";
    case Refusal::kNoRoom:
      return "no-room";
    case Refusal::kIo:
      return "io";
    case Refusal::kLeaving:
      return "leaving";
    case Refusal::kRange:
      return "range";
  }
  return "?";
}

std::string to_text(PageSet set) {
  char text[64];
  std::snprintf(text, sizeof text, "%u:%llu:%llx", set.container.value(),
                static_cast<unsigned long long>(set.stripe),
                static_cast<unsigned long long>(set.mask));
  return text;
}

std::string to_text(const Packet& packet) {
  const Message& m = packet.message;
  std::string text = std::string(name_of(m.type)) + " e" + std::to_string(m.epoch.value()) + " " +
                     to_text(m.pages);
  if (m.ahead != 0) text += " ahead=" + to_text(m.pages.with(m.ahead));
  if (m.requester != kNoNode) text += " requester=" + std::to_string(m.requester.value());
  if (m.node != kNoNode) text += " node=" + std::to_string(m.node.value());
  if (m.acks != 0) text += " acks=" + std::to_string(m.acks);
  if (m.confirm) text += " confirm";
  if (m.accepted) text += " accepted";
  if (m.leaving) text += " leaving";
  if (m.sole) text += " sole";
  if (m.refusal != Refusal::kNone) text += std::string(" refusal=") + name_of(m.refusal);
  if (m.type == MessageType::kReport) {
    constexpr const char* kHoldings[] = {"existed", "lost", "read", "sole"};
    text += std::string(" holding=") + kHoldings[static_cast<unsigned>(m.holding)];
  }
  constexpr const char* kPayloads[] = {"", " copy", " move", " zero"};
  text += kPayloads[static_cast<unsigned>(m.payload)];
  for (const Value value : packet.bytes) text += " #" + std::to_string(value);
  return text;
}

}  // namespace gob::sim
