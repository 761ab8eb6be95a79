// Injection (paper §3.1.1, as GMS): the last copy of a page goes to the node with most free room,
// by the hints that ride on every message.
#include <algorithm>

#include "libgob/protocol/core.h"
#include "libgob/protocol/outbox.h"

namespace gob {

namespace {
// A node that says it has less room than this needs it for itself.
constexpr std::uint32_t kWorthAsking = 16;
}  // namespace

NodeId Core::roomiest(const Injection& injection) const {
  NodeId best = kNoNode;
  std::uint32_t most = leaving_ ? 0 : kWorthAsking;
  for (NodeId node : view_.members) {
    if (node == config_.self || std::ranges::count(injection.refused_by, node) != 0) continue;
    const auto hint = room_.find(node);
    const std::uint32_t room = hint == room_.end() ? 0 : hint->second;
    if (room > most || (leaving_ && best == kNoNode)) {
      best = node;
      most = room;
    }
  }
  return best;
}

// A program waits for a frame: nodes that were full when they last spoke may have room by now.
void Core::look_for_room_again() {
  kept_in_a_row_ = 0;
  for (auto& [node, room] : room_) room = std::max(room, kWorthAsking + 1);
}

// Offers a kInjecting page to the next node; with nobody left, swaps it out or keeps it.
void Core::offer(PageId page, Out& out) {
  Injection& injection = injections_[key_of(page)];
  injection.target = roomiest(injection);
  if (injection.target != kNoNode) {
    std::uint32_t& room = room_[injection.target];
    if (room > 0) --room;
    Message message = make(MessageType::kInject, page);
    message.payload = Payload::kCopy;
    message.leaving = leaving_;
    send(injection.target, message, out);
    return;
  }
  if (config_.swap && !leaving_ && injection.sole) {
    injections_.erase(key_of(page));
    set_state(page, PageState::kSwappingOut);
    out.act(action::SwapOut{PageSet::of(page)});
    return;
  }
  set_state(page, PageState::kRead);
  end_flush(page, config_.self, out);
}

void Core::on_inject(NodeId from, const Message& message, PageId page, Out& out) {
  const LocalPage* local = locals_.find(key_of(page));
  Message reply = make(MessageType::kInjectReply, page);
  // A copy that we hold already is as good as the one offered.
  reply.accepted = local != nullptr && local->state == PageState::kRead && !local->flushing;
  if (local == nullptr && !leaving_) {
    // Someone who leaves may use the frames that we keep free for ourselves.
    const std::uint64_t keep = message.leaving ? 0 : low_water();
    reply.accepted = resident_ + reserved_ + keep < config_.budget_frames;
    if (reply.accepted) {
      set_state(page, PageState::kRead);
      out.act(action::Install{PageSet::of(page), Access::kNone, false});
    }
  }
  reply.leaving = leaving_;
  send(from, reply, out);
}

void Core::on_inject_reply(NodeId from, const Message& message, PageId page, Out& out) {
  const auto found = injections_.find(key_of(page));
  if (found == injections_.end() || found->second.target != from ||
      local(page).state != PageState::kInjecting) {
    out.act(action::Violation{from, message, "an answer to an injection that was not offered"});
    return;
  }
  if (message.accepted) {
    invalidate_local(page, out);
    return end_flush(page, from, out);
  }
  if (message.leaving) leavers_.insert(from);
  found->second.refused_by.push_back(from);
  room_[from] = std::min(room_[from], kWorthAsking);
  offer(page, out);
}

}  // namespace gob
