// Dispatch: one event in, actions out.
#include "libgob/protocol/core.h"

#include <algorithm>
#include <utility>

#include "libgob/protocol/outbox.h"

namespace gob {

namespace {
// A hint needs no more than "plenty": a larger value would only make equal states look different.
constexpr std::uint64_t kPlentyFrames = 1u << 20;
// Of one peer: requests for what its programs wait for, and its report.
constexpr std::size_t kMaxEarlyMessages = 1u << 22;
}  // namespace

void Core::step(const Event& event, Actions& actions) {
  Out out(actions);
  std::visit(
      [&](const auto& e) {
        using E = std::decay_t<decltype(e)>;
        if constexpr (std::is_same_v<E, event::Deliver>) {
          frames_ = e.frames;
          deliver(e.from, e.message, out);
        } else if constexpr (std::is_same_v<E, event::Touch>) {
          for_each_page(e.wanted, [&](PageId page) { touch(page, e.access, true, out); });
          for_each_page(e.wanted.with(e.ahead & ~e.wanted.mask),
                        [&](PageId page) { touch(page, e.access, false, out); });
        } else if constexpr (std::is_same_v<E, event::Expire>) {
          for_each_page(e.pages, [&](PageId page) { on_expire(page, out); });
        } else if constexpr (std::is_same_v<E, event::HoldExpired>) {
          for_each_page(e.pages, [&](PageId page) { on_hold_expired(page, out); });
        } else if constexpr (std::is_same_v<E, event::Flush>) {
          for_each_page(e.pages, [&](PageId page) { flush(page, out); });
        } else if constexpr (std::is_same_v<E, event::SwappedOut>) {
          for_each_page(e.pages, [&](PageId page) { on_swapped_out(page, e.ok, out); });
        } else if constexpr (std::is_same_v<E, event::SwappedIn>) {
          for_each_page(e.pages, [&](PageId page) { on_swapped_in(page, e.ok, out); });
        } else if constexpr (std::is_same_v<E, event::NewView>) {
          on_new_view(e.view, out);
        } else if constexpr (std::is_same_v<E, event::AddContainer>) {
          add_container(e.info);
        } else if constexpr (std::is_same_v<E, event::RemoveContainer>) {
          remove_container(e.id, out);
        } else if constexpr (std::is_same_v<E, event::WriteBack>) {
          for_each_page(e.pages,
                        [&](PageId page) { start_job(page, Pending::Job::kWriteBack, out); });
        } else if constexpr (std::is_same_v<E, event::Discard>) {
          for_each_page(e.pages,
                        [&](PageId page) { start_job(page, Pending::Job::kDiscard, out); });
        } else if constexpr (std::is_same_v<E, event::WrittenBack>) {
          for_each_page(e.pages, [&](PageId page) { on_written_back(page, e.ok, out); });
        } else if constexpr (std::is_same_v<E, event::Sync>) {
          start_sync(e.container, e.list, out);
        } else {
          static_assert(std::is_same_v<E, event::Leave>);
          leave(out);
        }
      },
      event);
  end_step(out);
}

void Core::end_step(Out& out) {
  // What the node says to itself is part of the same step; reclaiming may say more.
  const auto settle = [&] {
    while (out.has_own_message()) dispatch(config_.self, out.take_own_message(), out);
  };
  settle();
  // What a manager here answers at once gives its frame back, and lets the next job begin, at once.
  do {
    run_waiting_jobs(out);
    admit_parked(out);
    settle();
  } while (!jobs_ready_.empty() || (!parked_for_room_.empty() && has_room()) ||
           (!waiting_at_home_.empty() && has_room_at_home()));
  reclaim(out);
  settle();
  check_left(out);
}

void Core::deliver(NodeId from, const Message& message, Out& out) {
  // A node that departed may be asked to say again what it knew, if a view follows too soon.
  if (phase_ == Phase::kLeft && !view_.departs(config_.self)) return;
  // The peer may know of a view that membership has not told us yet. Nothing with bytes can come
  // before our own marker of that view.
  if (message.epoch > view_.epoch) return keep_early(from, message, out);
  if (!view_.contains(from) && !view_.departs(from)) return;  // a dead node's last words
  room_[from] = message.free_frames;
  if (message.epoch < view_.epoch) {
    // Virtual synchrony: until the peer's marker, what it sent in older epochs still arrives.
    if (phase_ == Phase::kDraining && !markers_.contains(from)) absorb(message, out);
    return;
  }
  if (phase_ == Phase::kLeft) return;
  if (message.type == MessageType::kMarker) {
    markers_.insert(from);
    maybe_finish_drain(out);
    return;
  }
  if (phase_ == Phase::kDraining) return keep_early(from, message, out);
  if (const char* rule = nonsense(from, message)) {
    out.act(action::Violation{from, message, rule});
    return;
  }
  dispatch(from, message, out);
}

void Core::keep_early(NodeId from, const Message& message, Out& out) {
  std::vector<Message>& messages = early_[from];
  if (carries_bytes(message) || messages.size() >= kMaxEarlyMessages) {
    out.act(action::Violation{from, message, "too much from a view that has not begun"});
    return;
  }
  messages.push_back(message);
}

// The rule that a message of this epoch breaks whatever the state of its pages, or nullptr.
const char* Core::nonsense(NodeId from, const Message& message) const {
  const auto member = [&](NodeId node) { return view_.contains(node); };
  const auto container = containers_.find(message.pages.container);
  if (message.type != MessageType::kReportEnd && container != containers_.end()) {
    if (message.pages.empty() || message.pages.last().value() >= container->second.pages)
      return "a page beyond the end of its container";
  }
  const NodeId home = home_of(message.pages.container);
  const bool asks_home = message.device && message.type != MessageType::kInvalidate &&
                         message.type != MessageType::kInjectReply &&
                         message.type != MessageType::kConfirm &&
                         container != containers_.end();
  if (asks_home && home != config_.self) return "a page of a file that is not here";
  const NodeId manager = view_.manager(message.pages.container, message.pages.stripe);
  const bool managed_here = manager == config_.self;
  const bool of_manager =
      message.type == MessageType::kForwardGet || message.type == MessageType::kForwardGrab ||
      message.type == MessageType::kInvalidate || message.type == MessageType::kFlushDiscard ||
      message.type == MessageType::kFlushAlone ||
      (message.device &&
       (message.type == MessageType::kPage || message.type == MessageType::kGrant));
  if (of_manager && from != manager) return "a node that does not manage the page speaks as if it did";
  switch (message.type) {
    case MessageType::kGet:
    case MessageType::kGrab:
    case MessageType::kFlush:
    case MessageType::kConfirm:
    case MessageType::kReport:
    case MessageType::kWriteBack:
    case MessageType::kDiscard:
      return managed_here ? nullptr : "a request to a node that does not manage the page";
    case MessageType::kFlushDone:
      if (!managed_here) return "a request to a node that does not manage the page";
      return message.node == kNoNode || member(message.node) ? nullptr
                                                             : "an owner that is no member";
    case MessageType::kForwardGet:
    case MessageType::kForwardGrab:
    case MessageType::kInvalidate:
      return member(message.requester) && message.requester != config_.self
                 ? nullptr
                 : "a requester that cannot be";
    case MessageType::kInject:
      return message.payload == Payload::kCopy ? nullptr : "an injection without bytes";
    case MessageType::kInvalidateAck:
    case MessageType::kPage:
    case MessageType::kGrant:
    case MessageType::kRefuse:
    case MessageType::kFlushDiscard:
    case MessageType::kFlushAlone:
    case MessageType::kInjectReply:
    case MessageType::kMarker:
    case MessageType::kReportEnd:
    case MessageType::kSync:
    case MessageType::kSyncEnd:
      return nullptr;
    case MessageType::kExists:
      return message.requester == kNoNode || member(message.requester) ? nullptr
                                                                       : "a requester that cannot be";
  }
  return nullptr;
}

void Core::dispatch(NodeId from, const Message& message, Out& out) {
  if (message.type == MessageType::kReportEnd) {
    report_ends_.insert(from);
    maybe_serve(out);
    return;
  }
  const bool is_request =
      message.type == MessageType::kGet || message.type == MessageType::kGrab ||
      message.type == MessageType::kFlush || message.type == MessageType::kWriteBack ||
      message.type == MessageType::kDiscard || message.type == MessageType::kSync;
  if (is_request && phase_ != Phase::kServing) {
    waiting_requests_.emplace_back(from, message);
    return;
  }
  if (!containers_.contains(message.pages.container)) {
    dispatch_removed(from, message, out);
    return;
  }
  if (message.type == MessageType::kSync) return on_sync(from, message, out);
  if (message.type == MessageType::kSyncEnd) return on_sync_end(from, message, out);
  if (message.type == MessageType::kExists) return on_exists(from, message, out);
  for_each_page(message.pages, [&](PageId page) { dispatch_page(from, message, page, out); });
}

void Core::dispatch_page(NodeId from, const Message& message, PageId page, Out& out) {
  switch (message.type) {
    case MessageType::kGet:
    case MessageType::kGrab:
    case MessageType::kFlush:
    case MessageType::kWriteBack:
    case MessageType::kDiscard:
      return on_request(from, message, page, out);
    case MessageType::kForwardGet:
    case MessageType::kForwardGrab:
      return on_forward(from, message, page, out);
    case MessageType::kInvalidate:
      return on_invalidate(from, message, page, out);
    case MessageType::kInvalidateAck:
      return on_invalidate_ack(from, message, page, out);
    case MessageType::kPage:
      return on_page(from, message, page, out);
    case MessageType::kGrant:
      return on_grant(from, message, page, out);
    case MessageType::kConfirm:
      return on_confirm(from, message, page, out);
    case MessageType::kRefuse:
      return on_refuse(from, message, page, out);
    case MessageType::kFlushDiscard:
      return on_flush_discard(from, message, page, out);
    case MessageType::kFlushAlone:
      return on_flush_alone(from, message, page, out);
    case MessageType::kInject:
      return on_inject(from, message, page, out);
    case MessageType::kInjectReply:
      return on_inject_reply(from, message, page, out);
    case MessageType::kFlushDone:
      return on_flush_done(from, message, page, out);
    case MessageType::kReport:
      return on_report(from, message, page);
    case MessageType::kMarker:
    case MessageType::kReportEnd:
    case MessageType::kSync:
    case MessageType::kSyncEnd:
    case MessageType::kExists:
      return;  // not about single pages: handled before
  }
}

// The container is gone here; others may not know yet. Whoever waits must get an answer.
void Core::dispatch_removed(NodeId from, const Message& message, Out& out) {
  for_each_page(message.pages, [&](PageId page) {
    switch (message.type) {
      case MessageType::kGet:
      case MessageType::kGrab:
      case MessageType::kWriteBack:
      case MessageType::kDiscard:
        return refuse(page, from, Refusal::kRemoved, config_.self, out);
      case MessageType::kForwardGet:
      case MessageType::kForwardGrab:
        return refuse_forward(message, page, Refusal::kRemoved, out);
      case MessageType::kExists:
        if (message.requester == kNoNode) return;
        [[fallthrough]];
      case MessageType::kInvalidate: {
        Message ack = make(MessageType::kInvalidateAck, page);
        ack.requester = message.requester;
        return send(message.requester, ack, out);
      }
      case MessageType::kInject:
        return send(from, make(MessageType::kInjectReply, page), out);
      case MessageType::kSync:
        return send(from, make(MessageType::kSyncEnd, page), out);
      case MessageType::kInvalidateAck:
      case MessageType::kPage:
      case MessageType::kGrant:
      case MessageType::kConfirm:
      case MessageType::kRefuse:
      case MessageType::kFlush:
      case MessageType::kFlushDiscard:
      case MessageType::kFlushAlone:
      case MessageType::kInjectReply:
      case MessageType::kFlushDone:
      case MessageType::kReport:
      case MessageType::kMarker:
      case MessageType::kReportEnd:
      case MessageType::kSyncEnd:
        return;
    }
  });
}

void Core::add_container(const ContainerInfo& info) {
  if (containers_.insert_or_assign(info.id, info).second && info.home == config_.self)
    ++homes_here_;
}

void Core::remove_container(ContainerId id, Out& out) {
  if (home_of(id) == config_.self) --homes_here_;
  if (containers_.erase(id) == 0) return;
  std::vector<PageKey> doomed;
  for (const auto& [key, pending] : pending_) {
    if (page_of(key).container != id) continue;
    if (pending.wanted != Access::kNone)
      out.act(action::Refuse{PageSet::of(page_of(key)), Refusal::kRemoved, config_.self});
    doomed.push_back(key);
  }
  end_all_jobs(id, out);
  for (PageKey key : doomed) drop_pending(page_of(key));

  for (PageKey key : locals_.keys_of(id)) {
    set_state(page_of(key), PageState::kInvalid);
    locals_.erase(key);
  }
  for (PageKey key : directory_.keys_of(id)) directory_.erase(key);

  const auto is_doomed = [id](const auto& item) { return page_of(item.first).container == id; };
  std::erase_if(transactions_, is_doomed);
  std::erase_if(deferred_, is_doomed);
  std::erase_if(injections_, is_doomed);
  std::erase_if(writing_, is_doomed);
  erase_stripes(file_dirty_, id);
  erase_stripes(file_listed_, id);
  out.act(action::DropContainer{id});
}

Message Core::make(MessageType type, PageId page) const {
  Message message;
  message.type = type;
  message.epoch = view_.epoch;
  message.pages = PageSet::of(page);
  return message;
}

void Core::send(NodeId to, Message message, Out& out) {
  if (to == config_.self) {
    out.to_self(message);
    return;
  }
  const std::uint64_t promised = std::min(reserved_, free_frames());
  message.free_frames =
      static_cast<std::uint32_t>(std::min(free_frames() - promised, kPlentyFrames));
  out.act(action::Send{to, message});
}

NodeId Core::manager(PageId page) const {
  return view_.manager(page.container, page.page.value() / kStripePages);
}

}  // namespace gob
