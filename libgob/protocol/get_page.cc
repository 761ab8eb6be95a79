// get_page (paper §3.1.1), the requester's end: a readable copy arrives.
#include "libgob/protocol/core.h"
#include "libgob/protocol/outbox.h"

namespace gob {

void Core::on_page(NodeId from, const Message& message, PageId page, Out& out) {
  const auto found = pending_.find(key_of(page));
  if (found == pending_.end() || found->second.stage != Pending::Stage::kSent ||
      found->second.access != Access::kRead) {
    out.act(action::Violation{from, message, "a page that was not asked for"});
    return;
  }
  const Access wanted = found->second.wanted;
  const LocalPage* local = locals_.find(key_of(page));
  const PageState state = local == nullptr ? PageState::kInvalid : local->state;
  const bool current = state == PageState::kRead || state == PageState::kWrite;
  if (message.device && !current) return on_device_grant(message, page, out);
  if (!current && (state != PageState::kInvalid || !carries_bytes(message))) {
    out.act(action::Violation{from, message, "a page without its bytes"});
    return;
  }
  const bool write_back = found->second.job == Pending::Job::kWriteBack;
  if (write_back && !current) return write_back_here(page, true, out);
  // It is written as it is after the turn of the program that was just granted it.
  if (write_back && state == PageState::kWrite && local->held) return defer(from, message, page);
  if (!write_back) drop_pending(page);
  if (!current) {
    set_state(page, PageState::kRead);
    LocalPage& arrived = locals_[key_of(page)];
    arrived.dirty = message.dirty;
    arrived.foreign = message.dirty && home_is_here(page);
    arrived.shared = home_of(page) != kNoNode;
    out.act(action::Install{PageSet::of(page), Access::kRead, false});
  } else {
    out.act(action::Map{PageSet::of(page), Access::kRead});  // our copy is the current one
  }
  if (write_back) return write_back_here(page, false, out);
  if (message.confirm) confirm(page, Refusal::kNone, out);
  if (wanted == Access::kNone) return;
  locals_[key_of(page)].referenced = true;
  if (wanted == Access::kWrite) return touch(page, wanted, true, out);
  hold(page, out);
}

// Off the critical path: the program runs already.
void Core::confirm(PageId page, Refusal refusal, Out& out) {
  Message message = make(MessageType::kConfirm, page);
  message.refusal = refusal;
  send(manager(page), message, out);
}

}  // namespace gob
