// grab_page (paper §3.1.1), the requester's end: the only copy arrives, then the acknowledgements
// of all who held one. The program may write when both are here.
#include "libgob/protocol/core.h"
#include "libgob/protocol/outbox.h"

namespace gob {

void Core::on_grant(NodeId from, const Message& message, PageId page, Out& out) {
  const auto found = pending_.find(key_of(page));
  if (found == pending_.end() || found->second.stage != Pending::Stage::kSent) {
    out.act(action::Violation{from, message, "a grant that was not asked for"});
    return;
  }
  Pending& pending = found->second;
  const LocalPage* local = locals_.find(key_of(page));
  const PageState state = local == nullptr ? PageState::kInvalid : local->state;
  if (pending.job == Pending::Job::kDiscard &&
      pending.acks_missing + static_cast<std::int32_t>(message.acks) >= 0) {
    pending.stage = Pending::Stage::kGranted;
    pending.confirm = message.confirm;
    pending.acks_missing += static_cast<std::int32_t>(message.acks);
    if (pending.acks_missing == 0) complete_discard(page, out);
    return;
  }
  if (message.device && state != PageState::kRead && pending.job == Pending::Job::kNone &&
      pending.access == Access::kWrite)
    return on_device_grant(message, page, out);
  const bool bytes = carries_bytes(message) || message.payload == Payload::kZero;
  const bool fits = state == PageState::kRead || (state == PageState::kInvalid && bytes);
  const bool acks_possible = pending.acks_missing + static_cast<std::int32_t>(message.acks) >= 0 &&
                             (message.acks == 0 || pending.access == Access::kWrite);
  if (!fits || !acks_possible) {
    out.act(action::Violation{from, message, "a grant without the page's bytes"});
    return;
  }
  pending.stage = Pending::Stage::kGranted;
  pending.confirm = message.confirm;
  pending.acks_missing += static_cast<std::int32_t>(message.acks);
  const bool complete = pending.acks_missing == 0;
  if (state == PageState::kInvalid) {
    if (pending.reserved) {
      pending.reserved = false;
      --reserved_;
    }
    pending.bytes_here = true;
    set_state(page, complete ? PageState::kWrite : PageState::kStored);
    LocalPage& arrived = locals_[key_of(page)];
    arrived.dirty = home_of(page) != kNoNode;
    arrived.foreign = message.dirty && home_is_here(page);
    out.act(action::Install{PageSet::of(page), complete ? Access::kWrite : Access::kNone,
                            message.payload == Payload::kZero});
  }
  if (complete) complete_grab(page, out);
}

void Core::on_invalidate_ack(NodeId from, const Message& message, PageId page, Out& out) {
  const auto found = pending_.find(key_of(page));
  if (found == pending_.end() || found->second.stage == Pending::Stage::kParked ||
      found->second.access != Access::kWrite) {
    out.act(action::Violation{from, message, "an acknowledgement that nobody awaits"});
    return;
  }
  Pending& pending = found->second;
  --pending.acks_missing;  // may come before the grant that says how many there are
  if (pending.stage != Pending::Stage::kGranted || pending.acks_missing != 0) return;
  if (pending.refusal != Refusal::kNone) return complete_refusal(page, out);
  if (pending.job == Pending::Job::kDiscard) return complete_discard(page, out);
  complete_grab(page, out);
}

// No other copy is left in the cluster.
void Core::complete_grab(PageId page, Out& out) {
  const Pending pending = pending_.find(key_of(page))->second;
  drop_pending(page);
  if (locals_[key_of(page)].state != PageState::kWrite) {
    set_state(page, PageState::kWrite);
    out.act(action::Map{PageSet::of(page), Access::kWrite});
  }
  if (home_of(page) != kNoNode) {
    locals_[key_of(page)].dirty = true;
    locals_[key_of(page)].shared = false;
    remember_dirty(page);
  }
  if (pending.confirm) confirm(page, Refusal::kNone, out);
  if (pending.wanted == Access::kNone) return;
  locals_[key_of(page)].referenced = true;
  hold(page, out);
}

}  // namespace gob
