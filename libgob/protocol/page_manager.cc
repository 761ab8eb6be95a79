// Page manager (paper §5.2, static distributed): one transaction at a time for each page, except
// that reads share one. A grant that the manager sends itself and that waits for no acknowledgement
// needs no confirmation: whatever the manager sends later follows it on the same channel.
#include <algorithm>

#include "libgob/protocol/core.h"
#include "libgob/protocol/outbox.h"

namespace gob {

// kGet, kGrab, kFlush, kWriteBack, kDiscard.
void Core::on_request(NodeId from, const Message& message, PageId page, Out& out) {
  const bool for_home =
      message.type == MessageType::kWriteBack || message.type == MessageType::kDiscard;
  if (for_home && from != home_of(page)) {
    out.act(action::Violation{from, message, "a node that is not the home speaks for the file"});
    return;
  }
  const bool ahead = (message.ahead & PageSet::of(page).mask) != 0;
  const auto found = transactions_.find(key_of(page));
  if (found == transactions_.end()) {
    start(page, {from, message.type}, ahead, out);
    close_transaction(page, out);
    return;
  }
  Transaction& transaction = found->second;
  if (asks_twice(transaction, {from, message.type})) {
    out.act(action::Violation{from, message, "a second request before the first has ended"});
    return;
  }
  if (ahead) {
    refuse(page, from, Refusal::kSkipped, config_.self, out);
    return;
  }
  if (message.type == MessageType::kGet && transaction.type == MessageType::kGet &&
      transaction.queue.empty()) {
    start(page, {from, message.type}, false, out);  // reads do not wait for each other
    return;
  }
  transaction.queue.push_back({from, message.type});
}

void Core::start(PageId page, QueuedRequest request, bool ahead, Out& out) {
  DirectoryEntry* entry = directory_.find(key_of(page));
  if (entry == nullptr) {
    if (home_of(page) != kNoNode) return start_on_device(page, request, out);
    const ContainerInfo& container = containers_.find(page.container)->second;
    const NodeId dead =
        view_.lost_manager(page.container, container.created, page.page.value() / kStripePages);
    if (request.type == MessageType::kFlush)
      return send(request.requester, make(MessageType::kFlushDiscard, page), out);
    if (dead != kNoNode) return refuse(page, request.requester, Refusal::kLost, dead, out);
    const bool create = !ahead || (request.type == MessageType::kGrab && config_.create_ahead);
    if (!create) return refuse(page, request.requester, Refusal::kSkipped, config_.self, out);
    return first_touch_grant(page, request.requester, out);
  }
  if (entry->lost != 0 && request.type == MessageType::kDiscard) {
    directory_.erase(key_of(page));
    return refuse(page, request.requester, Refusal::kSkipped, config_.self, out);
  }
  if (entry->lost != 0 && request.type != MessageType::kFlush)
    return refuse(page, request.requester, Refusal::kLost, entry->owner(), out);
  switch (request.type) {
    case MessageType::kGet:
      return start_get(page, *entry, request.requester, out);
    case MessageType::kGrab:
      return start_grab(page, *entry, request.requester, out);
    case MessageType::kWriteBack:
      return start_write_back(page, *entry, request.requester, out);
    case MessageType::kDiscard:
      return start_discard(page, *entry, request.requester, out);
    default:
      return start_flush(page, *entry, request.requester, out);
  }
}

// The page exists nowhere: the requester makes it (message 6 of figure 8), and since no other copy
// exists it may write at once.
void Core::first_touch_grant(PageId page, NodeId requester, Out& out) {
  DirectoryEntry& entry = directory_[key_of(page)];
  entry.set_owner(requester);
  entry.set_copyset(NodeSet::of(requester));
  Message message = make(MessageType::kGrant, page);
  message.payload = Payload::kZero;
  send(requester, message, out);
}

// A node has at most one wish to get a page, and one to flush it, under way.
bool Core::asks_twice(const Transaction& transaction, QueuedRequest request) {
  const auto same_wish = [&](MessageType type) {
    return (type == MessageType::kFlush) == (request.type == MessageType::kFlush);
  };
  return (same_wish(transaction.type) &&
          std::ranges::count(transaction.requesters, request.requester) != 0) ||
         std::ranges::any_of(transaction.queue, [&](const QueuedRequest& queued) {
           return queued.requester == request.requester && same_wish(queued.type);
         });
}

// Whether this node's own copy can answer now: two hops instead of three.
bool Core::may_serve(PageId page, bool takes_away, const Out& out) const {
  if (out.has_own_message()) return false;  // it may change what we hold: stay behind it
  const LocalPage* local = locals_.find(key_of(page));
  if (local == nullptr) return false;
  if (local->state == PageState::kRead) return !(takes_away && local->held);
  return local->state == PageState::kWrite && !local->held;
}

void Core::start_get(PageId page, DirectoryEntry& entry, NodeId requester, Out& out) {
  if (entry.owner() == requester || (exact_copysets() && entry.copyset().has(requester))) {
    // It came to hold the page (an injection) after it had asked.
    send(requester, make(MessageType::kPage, page), out);
    return;
  }
  if (may_serve(page, false, out) && requester != config_.self) {
    serve_copy(page, requester, false, out);
    NodeSet copyset = entry.copyset();
    copyset.add(requester);
    entry.set_copyset(copyset);
    return;
  }
  Transaction& transaction = transactions_[key_of(page)];
  transaction.type = MessageType::kGet;
  transaction.requesters.push_back(requester);
  Message message = make(MessageType::kForwardGet, page);
  message.requester = requester;
  send(entry.owner(), message, out);
}

// Tells every node of `holders` except `keep` and the requester; returns how many will acknowledge.
std::uint32_t Core::invalidate_others(PageId page, NodeSet holders, NodeId keep, NodeId requester,
                                      Out& out) {
  std::uint32_t count = 0;
  for (NodeId node : view_.members) {
    if (!holders.has(node) || node == keep || node == requester) continue;
    Message message = make(MessageType::kInvalidate, page);
    message.requester = requester;
    send(node, message, out);
    ++count;
  }
  return count;
}

void Core::start_grab(PageId page, DirectoryEntry& entry, NodeId requester, Out& out) {
  const std::uint32_t home_acks = note_dirty(page, entry, requester, out);
  const NodeSet holders = entry.copyset();
  const NodeId owner = entry.owner();
  const bool has_copy = owner == requester || (exact_copysets() && holders.has(requester));
  const bool serve_here = !has_copy && may_serve(page, true, out) && requester != config_.self;
  const bool direct = has_copy || serve_here;
  const NodeId source = has_copy ? requester : serve_here ? config_.self : owner;
  const std::uint32_t acks =
      home_acks + invalidate_others(page, holders, source, requester, out);

  if (direct && acks == 0) {
    entry.set_owner(requester);
    entry.set_copyset(NodeSet::of(requester));
  } else {
    entry.set_copyset(NodeSet::of(owner));  // if the owner cannot serve, it alone has the page
    Transaction& transaction = transactions_[key_of(page)];
    transaction.type = MessageType::kGrab;
    transaction.requesters.push_back(requester);
  }
  if (serve_here) return serve_move(page, requester, acks, acks != 0, out);
  Message message = make(has_copy ? MessageType::kGrant : MessageType::kForwardGrab, page);
  message.acks = acks;
  if (has_copy)
    message.confirm = acks != 0;
  else
    message.requester = requester;
  send(source, message, out);
}

void Core::start_flush(PageId page, DirectoryEntry& entry, NodeId requester, Out& out) {
  NodeSet others = entry.copyset();
  others.remove(requester);
  if (entry.lost != 0 || !entry.copyset().has(requester)) {
    // It lost the page before its wish came here.
    return send(requester, make(MessageType::kFlushDiscard, page), out);
  }
  // Until the copy is gone it counts as one: a write meanwhile has to wait.
  Transaction& transaction = transactions_[key_of(page)];
  transaction.type = MessageType::kFlush;
  transaction.requesters.push_back(requester);
  const bool last = entry.owner() == requester && (!exact_copysets() || others.empty());
  Message message = make(last ? MessageType::kFlushAlone : MessageType::kFlushDiscard, page);
  if (last) {
    // Coarse bits may stand for readers, its own, too.
    message.sole = std::ranges::none_of(view_.members, [&](NodeId node) {
      return node != requester && entry.copyset().has(node);
    });
    message.dirty = entry.dirty != 0;
  } else {
    message.confirm = true;
  }
  send(requester, message, out);
}

void Core::on_confirm(NodeId from, const Message& message, PageId page, Out& out) {
  const auto found = transactions_.find(key_of(page));
  const bool speaks_for_file = message.written || message.device;
  if (found == transactions_.end() || found->second.type == MessageType::kFlush ||
      (speaks_for_file && from != home_of(page)) ||
      std::erase(found->second.requesters, from) == 0) {
    out.act(action::Violation{from, message, "a confirmation that nobody awaits"});
    return;
  }
  const MessageType type = found->second.type;
  DirectoryEntry* entry = directory_.find(key_of(page));
  const NodeId home = home_of(page);
  if (message.refusal == Refusal::kNone && type == MessageType::kDiscard) {
    directory_.erase(key_of(page));
  } else if (message.refusal == Refusal::kNone && (entry != nullptr || home != kNoNode)) {
    if (entry == nullptr) {  // it came from the file; of a copy, the home has one, too
      entry = &directory_[key_of(page)];
      entry->set_owner(home);
      if (type == MessageType::kGet) entry->set_copyset(NodeSet::of(home));
      entry->dirty = type == MessageType::kGrab;
      entry->foreign = type == MessageType::kGrab && from != home;
    }
    NodeSet copyset = type == MessageType::kGet ? entry->copyset() : NodeSet{};
    if (!message.device) copyset.add(from);
    entry->set_copyset(copyset);
    if (type == MessageType::kGrab) entry->set_owner(from);
    if (message.written) entry->dirty = entry->foreign = 0;
  }
  close_transaction(page, out);
}

void Core::on_flush_done(NodeId from, const Message& message, PageId page, Out& out) {
  const auto found = transactions_.find(key_of(page));
  DirectoryEntry* entry = directory_.find(key_of(page));
  NodeSet copyset = entry == nullptr ? NodeSet{} : entry->copyset();
  if (message.node != from && exact_copysets()) copyset.remove(from);
  // The last copy goes somewhere; it is not just dropped, unless a file has it.
  // Of what is newer than the file only the home can say so.
  const bool to_file = home_of(page) != kNoNode && message.written && entry != nullptr &&
                       (entry->dirty == 0 || from == home_of(page));
  // A coarse copyset is never seen to be empty: the holder was told that it was the last.
  const bool last =
      message.node == kNoNode && (copyset.empty() || (to_file && !exact_copysets()));
  const bool vanishes = entry == nullptr || (last && !to_file);
  if (found == transactions_.end() || found->second.type != MessageType::kFlush || vanishes ||
      std::erase(found->second.requesters, from) == 0) {
    out.act(action::Violation{from, message, "the end of a flush that nobody asked for"});
    return;
  }
  if (last) {
    directory_.erase(key_of(page));
    return close_transaction(page, out);
  }
  if (message.node != kNoNode) {
    copyset.add(message.node);
    entry->set_owner(message.node);
  } else if (entry->owner() == from) {
    entry->set_owner(heir_among(copyset));
  }
  entry->set_copyset(copyset);
  close_transaction(page, out);
}

// Ownership passes to another holder; nobody need tell it, the directory is what counts.
NodeId Core::heir_among(NodeSet holders) const {
  if (holders.has(config_.self)) return config_.self;
  for (NodeId node : view_.members)
    if (holders.has(node)) return node;
  return kNoNode;
}

// Starts the requests that waited, as far as they can go together.
void Core::close_transaction(PageId page, Out& out) {
  while (true) {
    const auto found = transactions_.find(key_of(page));
    if (found == transactions_.end()) return;
    Transaction& transaction = found->second;
    if (!transaction.requesters.empty()) {
      const bool joins = !transaction.queue.empty() && transaction.type == MessageType::kGet &&
                         transaction.queue.front().type == MessageType::kGet;
      if (!joins) return;
    }
    if (transaction.queue.empty()) {
      transactions_.erase(found);
      return;
    }
    const QueuedRequest next = transaction.queue.front();
    transaction.queue.erase(transaction.queue.begin());
    start(page, next, false, out);
  }
}

void Core::refuse(PageId page, NodeId requester, Refusal refusal, NodeId blamed, Out& out) {
  Message message = make(MessageType::kRefuse, page);
  message.refusal = refusal;
  message.node = blamed;
  send(requester, message, out);
}

}  // namespace gob
