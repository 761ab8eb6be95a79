// The requester's beginning: a program touches a page (figures 2 and 3), asks for it, gives up.
#include <algorithm>
#include <deque>
#include <utility>

#include "libgob/protocol/core.h"
#include "libgob/protocol/outbox.h"

namespace gob {

// `demanded`: a program waits. Otherwise the page is asked for ahead of need and may be refused.
void Core::touch(PageId page, Access access, bool demanded, Out& out) {
  const auto refuse_here = [&](Refusal refusal) {
    if (demanded) out.act(action::Refuse{PageSet::of(page), refusal, config_.self});
  };
  const auto container = containers_.find(page.container);
  if (container == containers_.end()) return refuse_here(Refusal::kRemoved);
  if (page.page.value() >= container->second.pages) return refuse_here(Refusal::kRange);
  if (leaving_ || phase_ == Phase::kLeft) return refuse_here(Refusal::kLeaving);

  LocalPage* local = locals_.find(key_of(page));
  const PageState state = local == nullptr ? PageState::kInvalid : local->state;
  if (local != nullptr) local->referenced = true;
  switch (state) {
    case PageState::kWrite:
      if (demanded) out.act(action::Map{PageSet::of(page), Access::kWrite});
      return;
    case PageState::kRead:
    case PageState::kInjecting:
    case PageState::kSwappingOut:
      if (access == Access::kRead) {  // find_page hit
        if (demanded) out.act(action::Map{PageSet::of(page), Access::kRead});
        return;
      }
      return request(page, access, demanded, out);
    case PageState::kSwapped:
      if (!demanded) return;
      request(page, access, demanded, out);
      return start_swap_in(page, out);
    case PageState::kSwappingIn:
    case PageState::kStored:
    case PageState::kInvalid:
      return request(page, access, demanded, out);
  }
}

// Notes the wish, and sends it to the page manager if it can be sent now.
void Core::request(PageId page, Access access, bool demanded, Out& out) {
  const auto [found, is_new] = pending_.try_emplace(key_of(page));
  Pending& pending = found->second;
  if (!is_new) {
    if (demanded && access > pending.wanted) pending.wanted = access;
    if (pending.stage == Pending::Stage::kParked && pending.job == Pending::Job::kNone &&
        access > pending.access)
      pending.access = access;
    return;  // what parked it will retry it
  }
  pending.access = access;
  pending.wanted = demanded ? access : Access::kNone;
  send_request(page, pending, out);
}

// Sends a parked request unless the page is busy here, the view is changing, or no frame is free:
// then whatever ends that state retries.
void Core::send_request(PageId page, Pending& pending, Out& out) {
  const auto give_up_if_ahead = [&] {
    if (pending.wanted == Access::kNone) pending_.erase(key_of(page));
  };
  if (phase_ != Phase::kServing && phase_ != Phase::kRebuilding) return give_up_if_ahead();
  const LocalPage* local = locals_.find(key_of(page));
  const PageState state = local == nullptr ? PageState::kInvalid : local->state;
  if (local != nullptr && local->flushing) return give_up_if_ahead();
  if (state != PageState::kInvalid && state != PageState::kRead) return give_up_if_ahead();
  if (state == PageState::kInvalid) {
    if (!has_room() || !parked_for_room_.empty()) {
      if (pending.wanted == Access::kNone) return give_up_if_ahead();
      return park_for_room(page);
    }
    pending.reserved = true;
    ++reserved_;
  }
  pending.stage = Pending::Stage::kSent;
  Message message =
      make(pending.access == Access::kWrite ? MessageType::kGrab : MessageType::kGet, page);
  if (pending.wanted == Access::kNone) message.ahead = message.pages.mask;
  send(manager(page), message, out);
}

// The state that kept a wish from being sent has ended: look at it afresh.
void Core::retry(PageId page, Out& out) {
  const auto found = pending_.find(key_of(page));
  if (found == pending_.end() || found->second.stage != Pending::Stage::kParked) return;
  if (found->second.job != Pending::Job::kNone) return send_job(page, found->second, out);
  const Access wanted = found->second.wanted;
  drop_pending(page);
  if (wanted != Access::kNone) touch(page, wanted, true, out);
}

// Those who wait for a frame get it in the order in which they came. A page wanted anew as it
// leaves would otherwise take back the frame that it was to free, again and again.
void Core::park_for_room(PageId page) {
  if (std::ranges::count(parked_for_room_, key_of(page)) != 0) return;
  parked_for_room_.push_back(key_of(page));
  look_for_room_again();
}

// What is deferred for the page needs a frame of its home.
void Core::wait_at_home(PageId page) {
  if (std::ranges::count(waiting_at_home_, key_of(page)) != 0) return;
  waiting_at_home_.push_back(key_of(page));
  look_for_room_again();
}

void Core::admit_parked(Out& out) {
  while (!waiting_at_home_.empty() && has_room_at_home()) {
    const PageId page = page_of(waiting_at_home_.front());
    waiting_at_home_.pop_front();
    release_deferred(page, out);
  }
  while (!parked_for_room_.empty() && has_room()) {
    const PageId page = page_of(parked_for_room_.front());
    parked_for_room_.pop_front();
    // Nobody comes before the first: it does not queue again behind the others.
    std::deque<PageKey> behind = std::exchange(parked_for_room_, {});
    if (local(page).state == PageState::kSwapped) {
      start_swap_in(page, out);
    } else {
      retry(page, out);
    }
    behind.insert(behind.end(), parked_for_room_.begin(), parked_for_room_.end());
    parked_for_room_ = std::move(behind);
  }
}

void Core::on_expire(PageId page, Out& out) {
  const auto found = pending_.find(key_of(page));
  if (found == pending_.end() || found->second.wanted == Access::kNone) return;
  Pending& pending = found->second;
  // A request under way stays: its answer is installed when it comes.
  pending.wanted = Access::kNone;
  const bool in_vain = waits_in_vain(page);
  const bool no_room = in_vain || (pending.stage == Pending::Stage::kParked &&
                                   phase_ == Phase::kServing && !has_room());
  out.act(action::Refuse{PageSet::of(page), no_room ? Refusal::kNoRoom : Refusal::kTimedOut,
                         no_room || view_.members.empty() ? config_.self : manager(page)});
  // Nobody need make room for it any more, unless other nodes wait for it, too.
  if (!deferred_.contains(key_of(page))) std::erase(parked_for_room_, key_of(page));
  if (in_vain) return drop_device_read(page, out);
  if (pending.stage == Pending::Stage::kParked && pending.job == Pending::Job::kNone)
    drop_pending(page);
}

void Core::drop_pending(PageId page) {
  const auto found = pending_.find(key_of(page));
  if (found == pending_.end()) return;
  if (found->second.reserved) --reserved_;
  pending_.erase(found);
  if (jobs_wait_.contains(key_of(page))) jobs_ready_.insert(key_of(page));
  may_give_way(page);
}

// What kept the page here has ended. If all others were offered in vain, it may be the one to go.
void Core::may_give_way(PageId page) {
  const bool starved = !parked_for_room_.empty() || !waiting_at_home_.empty();
  if (starved && is_resident(local(page).state)) kept_in_a_row_ = 0;
}

void Core::on_refuse(NodeId from, const Message& message, PageId page, Out& out) {
  const auto found = pending_.find(key_of(page));
  if (found == pending_.end() || found->second.stage != Pending::Stage::kSent ||
      found->second.acks_missing + static_cast<std::int32_t>(message.acks) < 0) {
    out.act(action::Violation{from, message, "a refusal of what was not asked for"});
    return;
  }
  Pending& pending = found->second;
  pending.stage = Pending::Stage::kGranted;
  pending.confirm = message.confirm;
  pending.refusal = message.refusal;
  pending.blamed = message.node;
  // Holders may have been told to drop their copies already: their acknowledgements must be in
  // before the manager hears that the request is over, or they would be taken for those of the next
  // one.
  pending.acks_missing += static_cast<std::int32_t>(message.acks);
  if (pending.acks_missing == 0) complete_refusal(page, out);
}

void Core::complete_refusal(PageId page, Out& out) {
  const Pending pending = pending_.find(key_of(page))->second;
  if (pending.job != Pending::Job::kNone) {
    // The manager knows of nothing that the file has not.
    const bool needless = pending.refusal == Refusal::kSkipped;
    return end_job(page, needless ? Refusal::kNone : pending.refusal, needless, out);
  }
  drop_pending(page);
  if (pending.confirm) confirm(page, pending.refusal, out);
  if (pending.wanted == Access::kNone) return;
  if (pending.refusal == Refusal::kSkipped)
    return touch(page, pending.wanted, true, out);  // somebody came to need it in the meantime
  out.act(action::Refuse{PageSet::of(page), pending.refusal, pending.blamed});
}

}  // namespace gob
