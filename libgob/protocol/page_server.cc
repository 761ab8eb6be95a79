// Page server (paper §5.2): sends copies, gives pages away, drops copies.
#include "libgob/protocol/core.h"
#include "libgob/protocol/outbox.h"

namespace gob {

// kForwardGet, kForwardGrab.
void Core::on_forward(NodeId from, const Message& message, PageId page, Out& out) {
  LocalPage* local = locals_.find(key_of(page));
  const PageState state = local == nullptr ? PageState::kInvalid : local->state;
  const bool takes_away = message.type == MessageType::kForwardGrab;
  switch (state) {
    case PageState::kRead:
    case PageState::kWrite:
      if (local->held && (takes_away || state == PageState::kWrite))
        return defer(from, message, page);
      if (takes_away) return serve_move(page, message.requester, message.acks, true, out);
      return serve_copy(page, message.requester, true, out);
    case PageState::kSwapped:
      defer(from, message, page);
      return start_swap_in(page, out);
    case PageState::kInjecting:
    case PageState::kSwappingOut:
    case PageState::kSwappingIn:
      return defer(from, message, page);
    case PageState::kInvalid:
      if (message.device) {
        // Nothing comes here any more; the file is away with this node.
        if (left_said_) return refuse_forward(message, page, Refusal::kIo, out);
        defer(from, message, page);
        return read_device(page, out);
      }
      [[fallthrough]];
    case PageState::kStored:
      // The directory is wrong about us; the requester must not wait for ever.
      refuse_forward(message, page, Refusal::kLost, out);
      out.act(action::Violation{from, message, "a forward to a node without the page"});
      return;
  }
}

// The requester hears no, and how many acknowledgements it still has to collect.
void Core::refuse_forward(const Message& message, PageId page, Refusal refusal, Out& out) {
  Message answer = make(MessageType::kRefuse, page);
  answer.refusal = refusal;
  answer.node = config_.self;
  answer.acks = message.acks;
  answer.confirm = true;
  send(message.requester, answer, out);
}

void Core::serve_copy(PageId page, NodeId requester, bool wants_confirm, Out& out) {
  LocalPage& local = locals_[key_of(page)];
  if (local.state == PageState::kWrite) {
    out.act(action::Downgrade{PageSet::of(page)});
    set_state(page, PageState::kRead);
  }
  local.shared = home_of(page) != kNoNode;
  Message message = make(MessageType::kPage, page);
  message.payload = Payload::kCopy;
  message.dirty = local.dirty;
  message.confirm = wants_confirm;
  send(requester, message, out);
}

void Core::serve_move(PageId page, NodeId requester, std::uint32_t acks, bool wants_confirm,
                      Out& out) {
  Message message = make(MessageType::kGrant, page);
  message.payload = Payload::kMove;
  message.dirty = locals_[key_of(page)].dirty;
  message.acks = acks;
  message.confirm = wants_confirm;
  send(requester, message, out);
  remember_dirty(page);
  set_state(page, PageState::kInvalid);
  forget_if_empty(page);
}

void Core::on_invalidate(NodeId from, const Message& message, PageId page, Out& out) {
  LocalPage* local = locals_.find(key_of(page));
  const PageState state = local == nullptr ? PageState::kInvalid : local->state;
  switch (state) {
    case PageState::kRead:
      if (local->held) return defer(from, message, page);
      invalidate_local(page, out);
      break;
    case PageState::kInvalid:
      break;  // a coarse copyset may name us in vain
    case PageState::kInjecting:
    case PageState::kSwappingOut:
    case PageState::kSwappingIn:
      return defer(from, message, page);
    case PageState::kWrite:
      if (message.device && home_of(page) != kNoNode && home_of(page) == message.requester &&
          from == manager(page)) {
        if (local->held) return defer(from, message, page);
        invalidate_local(page, out);
        break;
      }
      [[fallthrough]];
    case PageState::kStored:
    case PageState::kSwapped:
      // We hold the only copy: a correct manager takes it, never drops it.
      out.act(action::Violation{from, message, "an invalidation of the only copy"});
      return;
  }
  Message ack = make(MessageType::kInvalidateAck, page);
  ack.requester = message.requester;
  send(message.requester, ack, out);
}

}  // namespace gob
