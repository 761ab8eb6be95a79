// This node's copies: their states, the frames they take, and messages that wait for them.
#include "libgob/protocol/core.h"
#include "libgob/protocol/outbox.h"

namespace gob {

void Core::set_state(PageId page, PageState state) {
  LocalPage& local = locals_[key_of(page)];
  if (is_resident(local.state) && !is_resident(state)) {
    --resident_;
    if (local.flushing) --being_flushed_;
    kept_in_a_row_ = 0;
    if (file_frames_.size() != 0) file_frames_.erase(key_of(page));
  }
  if (!is_resident(local.state) && is_resident(state)) {
    ++resident_;
    if (local.flushing) ++being_flushed_;
    if (home_of(page) != kNoNode) {
      file_frames_[key_of(page)] = 1;
      kept_in_a_row_ = 0;  // another that may give way
    }
  }
  local.state = state;
  if (state == PageState::kInvalid) local.held = local.dirty = local.shared = local.foreign = false;
}

// invalidate_page: no program here can read the page once the action is performed.
void Core::invalidate_local(PageId page, Out& out) {
  out.act(action::Invalidate{PageSet::of(page)});
  set_state(page, PageState::kInvalid);
  forget_if_empty(page);
}

void Core::forget_if_empty(PageId page) {
  const LocalPage* local = locals_.find(key_of(page));
  if (local == nullptr || local->state != PageState::kInvalid) return;
  if (!local->flushing) locals_.erase(key_of(page));
  // A request for write access that was to upgrade the copy now needs a frame.
  const auto pending = pending_.find(key_of(page));
  if (pending != pending_.end() && pending->second.stage != Pending::Stage::kParked &&
      !pending->second.reserved) {
    pending->second.reserved = true;
    ++reserved_;
  }
}

std::uint64_t Core::kept_for_home() const {
  return homes_here_ != 0 && config_.budget_frames > 1 ? 1 : 0;
}

bool Core::has_room() const {
  return resident_ + reserved_ + kept_for_home() < config_.budget_frames;
}

std::optional<PageId> Core::first_for_room() const {
  if (parked_for_room_.empty()) return std::nullopt;
  return page_of(parked_for_room_.front());
}

bool Core::has_room_at_home() const { return resident_ + reserved_ < config_.budget_frames; }

void Core::defer(NodeId from, const Message& message, PageId page) {
  Message single = message;
  single.pages = PageSet::of(page);
  deferred_[key_of(page)].push_back({from, single});
}

// Hands the waiting messages to the page in the order in which they came.
void Core::release_deferred(PageId page, Out& out) {
  const auto found = deferred_.find(key_of(page));
  if (found == deferred_.end()) return;
  const std::vector<Deferred> messages = std::move(found->second);
  deferred_.erase(found);
  for (const Deferred& deferred : messages)
    dispatch_page(deferred.from, deferred.message, page, out);
}

// Mirage's time window: the access that was waited for gets its turn before the page leaves again.
void Core::hold(PageId page, Out& out) {
  if (!config_.hold_grants) return;
  locals_[key_of(page)].held = true;
  out.act(action::Hold{PageSet::of(page)});
}

void Core::on_hold_expired(PageId page, Out& out) {
  LocalPage* local = locals_.find(key_of(page));
  if (local == nullptr || !local->held) return;
  local->held = false;
  may_give_way(page);
  if (const auto found = pending_.find(key_of(page));
      found != pending_.end() && found->second.job == Pending::Job::kDiscard &&
      found->second.stage == Pending::Stage::kGranted && found->second.acks_missing == 0)
    complete_discard(page, out);
  release_deferred(page, out);
}

}  // namespace gob
