// File containers: the file at the home is where the pages are that no node has in memory (paper
// §4.1.2). A page without a directory entry is current on that device; the home reads it there on
// the manager's word only, and writes to it only what the manager knows to be newer.
#include <algorithm>

#include "libgob/protocol/core.h"
#include "libgob/protocol/outbox.h"

namespace gob {

namespace {

bool is_forward(const Message& message) {
  return message.type == MessageType::kForwardGet || message.type == MessageType::kForwardGrab;
}

}  // namespace

NodeId Core::home_of(ContainerId id) const {
  const auto found = containers_.find(id);
  return found == containers_.end() ? kNoNode : found->second.home;
}

// The manager's part. No node has the page: the home reads it, for the requester or for itself.
void Core::start_on_device(PageId page, QueuedRequest request, Out& out) {
  const NodeId home = home_of(page);
  const NodeId requester = request.requester;
  if (request.type == MessageType::kFlush)
    return send(requester, make(MessageType::kFlushDiscard, page), out);
  if (request.type == MessageType::kDiscard)
    return refuse(page, requester, Refusal::kSkipped, config_.self, out);
  if (const NodeId dead = lost_with(page); dead != kNoNode)
    return refuse(page, requester, Refusal::kLost, dead, out);
  if (request.type == MessageType::kWriteBack)
    return refuse(page, requester, Refusal::kSkipped, config_.self, out);
  if (!view_.contains(home)) return refuse(page, requester, Refusal::kIo, home, out);
  const bool grab = request.type == MessageType::kGrab;
  Transaction& transaction = transactions_[key_of(page)];
  transaction.type = request.type;
  transaction.requesters.push_back(requester);
  MessageType type = grab ? MessageType::kForwardGrab : MessageType::kForwardGet;
  if (requester == home) type = grab ? MessageType::kGrant : MessageType::kPage;
  Message message = make(type, page);
  message.device = true;
  if (requester == home)
    message.confirm = true;
  else
    message.requester = requester;
  send(home, message, out);
}

// Two nodes know that a page is newer than its file, or lost: its manager and the home. If both
// were gone at once, or were one node, whoever wrote the page may have died with them or been cut
// off, and the file's bytes may be old.
NodeId Core::lost_with(PageId page) const {
  const ContainerInfo& info = containers_.find(page.container)->second;
  for (const Loss& loss : view_.losses) {
    if (info.created >= loss.epoch) continue;
    const NodeId manager =
        manager_among(loss.members, page.container, page.page.value() / kStripePages);
    const bool had_home = std::ranges::count(loss.members, info.home) != 0;
    const bool home_died = std::ranges::count(loss.dead, info.home) != 0;
    if (had_home && !home_died) continue;
    if (std::ranges::count(loss.dead, manager) != 0) return manager;
  }
  return kNoNode;
}

// Somebody is about to write the page. The home remembers that, too: should the manager die with
// the writer, the page is known to be lost. Returns how many acknowledgements the writer has to
// wait for: word to the home that is on its way dies with the manager.
std::uint32_t Core::note_dirty(PageId page, DirectoryEntry& entry, NodeId writer, Out& out) {
  const NodeId home = home_of(page);
  if (home == kNoNode) return 0;
  if (writer != home) entry.foreign = 1;
  if (entry.dirty != 0) return 0;
  entry.dirty = 1;
  Message message = make(MessageType::kExists, page);
  message.dirty = true;
  if (home == config_.self) {
    // After what this node has just told itself, such as that a write-back before was needless.
    if (out.has_own_message())
      send(home, message, out);
    else
      remember_dirty(page);
    return 0;
  }
  // A home that writes itself knows.
  if (home == writer || !view_.contains(home)) return 0;
  message.requester = writer;
  send(home, message, out);
  return 1;
}

// The home gives the page away to be written, or writes itself.
void Core::remember_dirty(PageId page) {
  if (!home_is_here(page)) return;
  const PageSet set = PageSet::of(page);
  file_dirty_[{set.container, set.stripe}] |= set.mask;
}

void Core::forget_dirty(PageId page) {
  const PageSet set = PageSet::of(page);
  const auto found = file_dirty_.find({set.container, set.stripe});
  if (found != file_dirty_.end() && (found->second &= ~set.mask) == 0) file_dirty_.erase(found);
}

// The home's part. A forward, deferred, or the answer to its own request wants the file's bytes.
void Core::read_device(PageId page, Out& out) {
  if (local(page).state == PageState::kInvalid) set_state(page, PageState::kSwapped);
  start_swap_in(page, out);
}

// kPage, kGrant with `device`: the answer to our own request is in our own file.
void Core::on_device_grant(const Message& message, PageId page, Out& out) {
  Pending& pending = pending_.find(key_of(page))->second;
  pending.stage = Pending::Stage::kGranted;
  pending.confirm = message.confirm;
  pending.device = true;
  read_device(page, out);
}

// The page comes here for others' sake: it takes the frame that was promised to our own request for
// it, which may be waiting for these others. Returns whether there was one.
bool Core::use_reservation(PageId page) {
  const auto found = pending_.find(key_of(page));
  if (found == pending_.end() || !found->second.reserved) return false;
  if (resident_ + reserved_ > config_.budget_frames) return false;  // it would not be enough
  found->second.reserved = false;
  --reserved_;
  return true;
}

// The manager said that the file has the page, no frame is free for it, and nobody waits for it any
// more: neither a program here nor another node.
bool Core::waits_in_vain(PageId page) const {
  const Pending* granted = pending(page);
  return granted != nullptr && granted->device && granted->job == Pending::Job::kNone &&
         granted->wanted == Access::kNone && local(page).state == PageState::kSwapped &&
         !deferred_.contains(key_of(page));
}

// The manager hears of it, so that others have their turn.
void Core::drop_device_read(PageId page, Out& out) {
  set_state(page, PageState::kInvalid);
  forget_if_empty(page);
  Pending& granted = pending_.find(key_of(page))->second;
  granted.refusal = Refusal::kNoRoom;
  granted.blamed = config_.self;
  granted.device = false;
  complete_refusal(page, out);
}

void Core::on_device_read(PageId page, bool ok, Out& out) {
  const auto waiting = deferred_.find(key_of(page));
  const bool forwarded = waiting != deferred_.end() &&
                         std::ranges::any_of(waiting->second, [](const Deferred& deferred) {
                           return is_forward(deferred.message);
                         });
  const auto found = pending_.find(key_of(page));
  const bool granted = found != pending_.end() && found->second.device;
  if (!ok || (!forwarded && !granted)) {
    // It failed, or a view change has forgotten who asked: the manager knows of no copy here.
    set_state(page, PageState::kInvalid);
    forget_if_empty(page);
    if (granted) {
      found->second.refusal = Refusal::kIo;
      found->second.blamed = config_.self;
      found->second.device = false;
      complete_refusal(page, out);
    }
    std::vector<Deferred> messages;
    if (const auto still = deferred_.find(key_of(page)); still != deferred_.end()) {
      messages = std::move(still->second);
      deferred_.erase(still);
    }
    for (const Deferred& deferred : messages) {
      if (is_forward(deferred.message))
        refuse_forward(deferred.message, page, Refusal::kIo, out);
      else
        dispatch_page(deferred.from, deferred.message, page, out);
    }
    return retry(page, out);
  }
  set_state(page, PageState::kRead);
  LocalPage& read = locals_[key_of(page)];
  read.dirty = read.foreign = read.shared = false;
  may_give_way(page);  // while it was read, it could not
  out.act(action::Install{PageSet::of(page), Access::kNone, false});
  if (granted) {
    const Pending pending = found->second;
    if (pending.access == Access::kWrite) {
      complete_grab(page, out);
    } else {
      drop_pending(page);
      out.act(action::Map{PageSet::of(page), Access::kRead});
      if (pending.confirm) confirm(page, Refusal::kNone, out);
      if (pending.wanted != Access::kNone) {
        locals_[key_of(page)].referenced = true;
        if (pending.wanted == Access::kWrite)
          touch(page, pending.wanted, true, out);
        else
          hold(page, out);
      }
    }
  }
  release_deferred(page, out);
  retry(page, out);
}

// The home's own last copy, newer than the file: the file is where it belongs.
void Core::write_out(PageId page, Out& out) {
  injections_.erase(key_of(page));
  set_state(page, PageState::kSwappingOut);
  out.act(action::SwapOut{PageSet::of(page)});
}

// The last copy finds no node with room. Nothing is lost with one that the file has, too; others
// go home, where they are written. A home that is away is waited for.
void Core::offer_file_page(PageId page, Injection& injection, Out& out) {
  const NodeId home = home_of(page);
  const bool dirty = locals_[key_of(page)].dirty;
  const bool refused = std::ranges::count(injection.refused_by, home) != 0;
  if (injection.sole && !dirty) {
    invalidate_local(page, out);
    return end_flush(page, kNoNode, out);
  }
  if (dirty && home != config_.self && view_.contains(home) && !refused) {
    injection.target = home;
    injection.homeward = true;
    Message message = make(MessageType::kInject, page);
    message.payload = Payload::kCopy;
    message.device = true;
    message.dirty = true;
    message.leaving = leaving_;
    return send(home, message, out);
  }
  set_state(page, PageState::kRead);
  end_flush(page, config_.self, out);
}

// A dirty last copy of ours is in the file now, or could not be written.
void Core::on_device_flushed(PageId page, bool ok, Out& out) {
  LocalPage& flushed = locals_[key_of(page)];
  if (!ok || !flushed.flushing) {
    // After a view change the new manager counts on this copy.
    set_state(page, PageState::kRead);
    return end_flush(page, config_.self, out);
  }
  out.act(action::Invalidate{PageSet::of(page)});
  set_state(page, PageState::kInvalid);
  forget_dirty(page);
  end_flush(page, kNoNode, out);
}

}  // namespace gob
