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
    message.dirty = locals_[key_of(page)].dirty;
    send(injection.target, message, out);
    return;
  }
  if (home_of(page) != kNoNode) return offer_file_page(page, injection, out);
  // A node that leaves brings its pages back from swap, and may so come to have all its frames full
  // of pages that nobody takes, while others wait for one that is swapped out.
  const auto asked_for_swapped = [&] {
    return std::ranges::any_of(parked_for_room_, [&](PageKey key) {
      return local(page_of(key)).state == PageState::kSwapped && deferred_.contains(key);
    });
  };
  if (config_.swap && injection.sole && (!leaving_ || asked_for_swapped())) {
    injections_.erase(key_of(page));
    set_state(page, PageState::kSwappingOut);
    out.act(action::SwapOut{PageSet::of(page)});
    return;
  }
  set_state(page, PageState::kRead);
  end_flush(page, config_.self, out);
}

void Core::on_inject(NodeId from, const Message& message, PageId page, Out& out) {
  LocalPage* local = locals_.find(key_of(page));
  const bool must_take = message.device && !leaving_;
  // A wish of ours to flush it may wait at the manager for the end of this very flush.
  const bool absent =
      local == nullptr || (must_take && local->state == PageState::kInvalid && local->flushing);
  if (message.payload == Payload::kNone && must_take && absent && has_room_at_home()) {
    Message again = make(MessageType::kInjectReply, page);
    again.device = true;
    return send(from, again, out);
  }
  Message reply = make(MessageType::kInjectReply, page);
  // A copy that we hold already is as good as the one offered.
  if (!absent && local->state == PageState::kRead && (must_take || !local->flushing)) {
    reply.accepted = true;
    local->dirty = local->dirty || message.dirty;
    local->foreign = local->foreign || (message.dirty && home_is_here(page));
  }
  if (absent && !leaving_ && message.payload != Payload::kNone) {
    if (must_take) use_reservation(page);
    // Someone who leaves may use the frames that we keep free for ourselves.
    const std::uint64_t keep = message.leaving || message.device ? 0 : low_water();
    reply.accepted = frames_ && resident_ + reserved_ + keep < config_.budget_frames;
    if (reply.accepted) {
      set_state(page, PageState::kRead);
      LocalPage& arrived = locals_[key_of(page)];
      arrived.dirty = message.dirty;
      arrived.foreign = message.dirty && home_is_here(page);
      out.act(action::Install{PageSet::of(page), Access::kNone, false});
    }
  }
  if (must_take && !reply.accepted) {
    // It comes home, where it can be written: it waits for a frame, or for what is under way here.
    // Its bytes do not; they are sent again.
    Message later = message;
    later.payload = Payload::kNone;
    defer(from, later, page);
    if (absent) wait_at_home(page);
    return;
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
  // It is the home, and has room by now.
  if (message.device && from == home_of(page)) return offer_file_page(page, found->second, out);
  if (message.leaving) leavers_.insert(from);
  found->second.refused_by.push_back(from);
  room_[from] = std::min(room_[from], kWorthAsking);
  offer(page, out);
}

}  // namespace gob
