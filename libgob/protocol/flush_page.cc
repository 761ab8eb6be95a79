// flush_page (paper §3.1.1): a page leaves this node's memory. If others hold it the copy is
// dropped (ownership passes on in the directory); the last copy is injected (injection.cc), or else
// swapped out by the I/O linker.
#include "libgob/protocol/core.h"
#include "libgob/protocol/outbox.h"

namespace gob {

void Core::flush(PageId page, Out& out) {
  LocalPage* local = locals_.find(key_of(page));
  if (local == nullptr || local->flushing || local->held || phase_ != Phase::kServing) return;
  if (local->state != PageState::kRead && local->state != PageState::kWrite) return;
  if (pending_.contains(key_of(page))) return;  // somebody here is about to use it
  local->flushing = true;
  ++being_flushed_;
  send(manager(page), make(MessageType::kFlush, page), out);
}

void Core::on_flush_discard(NodeId from, const Message& message, PageId page, Out& out) {
  LocalPage* local = locals_.find(key_of(page));
  if (local == nullptr || !local->flushing ||
      (local->state != PageState::kRead && local->state != PageState::kInvalid)) {
    out.act(action::Violation{from, message, "a discard of what was not to be flushed"});
    return;
  }
  local->flushing = false;
  if (is_resident(local->state)) --being_flushed_;
  // Without `confirm` the manager speaks of a copy that was taken or invalidated while the wish was
  // on its way; one that is here all the same came home after that.
  if (local->state == PageState::kRead && message.confirm)
    invalidate_local(page, out);
  else
    forget_if_empty(page);
  if (message.confirm) {
    Message done = make(MessageType::kFlushDone, page);
    done.node = kNoNode;
    send(manager(page), done, out);
  }
  release_deferred(page, out);  // a page of our file that came home meanwhile
  retry(page, out);
}

void Core::on_flush_alone(NodeId from, const Message& message, PageId page, Out& out) {
  LocalPage* local = locals_.find(key_of(page));
  const PageState state = local == nullptr ? PageState::kInvalid : local->state;
  if (local == nullptr || !local->flushing ||
      (state != PageState::kRead && state != PageState::kWrite)) {
    out.act(action::Violation{from, message, "a flush answer for a page that is not here"});
    return;
  }
  if (state == PageState::kWrite) out.act(action::Downgrade{PageSet::of(page)});
  set_state(page, PageState::kInjecting);
  injections_[key_of(page)].sole = message.sole;
  if (home_of(page) != kNoNode) {
    local->dirty = message.dirty;
    local->foreign = local->foreign && message.dirty;
    local->shared = false;
    if (message.dirty && message.sole && home_is_here(page)) return write_out(page, out);
  }
  offer(page, out);
}

// The manager learns where the page is now; whatever waited for the flush goes on.
void Core::end_flush(PageId page, NodeId owner, Out& out) {
  LocalPage& local = locals_[key_of(page)];
  if (local.flushing) {
    local.flushing = false;
    if (is_resident(local.state)) --being_flushed_;
    Message message = make(MessageType::kFlushDone, page);
    message.node = owner;
    message.written = owner == kNoNode;
    send(manager(page), message, out);
  }
  if (is_resident(local.state)) ++kept_in_a_row_;
  injections_.erase(key_of(page));
  forget_if_empty(page);
  release_deferred(page, out);
  retry(page, out);
}

void Core::on_swapped_out(PageId page, bool ok, Out& out) {
  if (local(page).state != PageState::kSwappingOut) return;  // removed meanwhile
  if (home_of(page) != kNoNode) return on_device_flushed(page, ok, out);
  set_state(page, ok ? PageState::kSwapped : PageState::kRead);
  end_flush(page, config_.self, out);
}

void Core::start_swap_in(PageId page, Out& out) {
  if (local(page).state != PageState::kSwapped) return;
  const bool at_home = home_is_here(page);
  const bool had_frame = at_home && use_reservation(page);
  // For another node it takes a frame for a while only, as the file has it, too.
  const bool for_others = at_home && deferred_.contains(key_of(page));
  if (for_others && !has_room_at_home()) return wait_at_home(page);
  if (!for_others && (!has_room() || (!had_frame && !parked_for_room_.empty()))) {
    if (waits_in_vain(page)) return drop_device_read(page, out);
    return park_for_room(page);
  }
  set_state(page, PageState::kSwappingIn);
  out.act(action::SwapIn{PageSet::of(page)});
}

void Core::on_swapped_in(PageId page, bool ok, Out& out) {
  if (local(page).state != PageState::kSwappingIn) return;
  if (home_of(page) != kNoNode) return on_device_read(page, ok, out);
  const auto found = pending_.find(key_of(page));
  const Access wanted = found == pending_.end() ? Access::kNone : found->second.wanted;
  drop_pending(page);
  if (ok) {
    set_state(page, PageState::kWrite);  // it was the last copy
    out.act(action::FreeSwap{PageSet::of(page)});
    if (wanted != Access::kNone) {
      out.act(action::Map{PageSet::of(page), Access::kWrite});
      hold(page, out);
    }
    if (!locals_[key_of(page)].held) release_deferred(page, out);
    return;
  }
  set_state(page, PageState::kSwapped);  // a later try may succeed
  if (wanted != Access::kNone)
    out.act(action::Refuse{PageSet::of(page), Refusal::kIo, config_.self});
  const auto waiting = deferred_.find(key_of(page));
  if (waiting == deferred_.end()) return;
  const std::vector<Deferred> messages = std::move(waiting->second);
  deferred_.erase(waiting);
  for (const Deferred& deferred : messages)
    refuse_forward(deferred.message, page, Refusal::kIo, out);
}

}  // namespace gob
