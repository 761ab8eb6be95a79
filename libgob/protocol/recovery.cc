// View changes. Every member first absorbs what older epochs still send (virtual synchrony: a
// marker on each channel ends them), then forgets all that was in transit, tells the new managers
// what it holds and what it managed, and asks again for what its programs wait for. Any valid copy
// that survives is current: a write begins only after every other copy is acknowledged gone.
#include <algorithm>
#include <tuple>
#include <utility>

#include "libgob/protocol/core.h"
#include "libgob/protocol/outbox.h"

namespace gob {

void Core::on_new_view(const View& view, Out& out) {
  if (view.epoch <= view_.epoch) return;
  const bool evicted = phase_ == Phase::kLeft && !view_.departs(config_.self);
  if (evicted || (phase_ == Phase::kLeft && !view.departs(config_.self))) return;
  view_ = view;
  parked_for_room_.clear();
  waiting_at_home_.clear();
  const auto early = std::move(early_);
  early_.clear();
  if (!view_.contains(config_.self) && !view_.departs(config_.self)) return on_evicted(out);
  phase_ = Phase::kDraining;
  markers_ = {config_.self};
  report_ends_.clear();
  leavers_.clear();
  if (locals_.size() != 0) left_said_ = false;
  abandon_transit();
  std::erase_if(room_, [&](const auto& hint) { return !view_.contains(hint.first); });
  for (const auto* nodes : {&view_.members, &view_.departing}) {
    for (NodeId node : *nodes) {
      Message marker;
      marker.type = MessageType::kMarker;
      marker.epoch = view_.epoch;
      if (node != config_.self) send(node, marker, out);
    }
  }
  // Peers who heard of this view first, and reports of views that this one overtakes.
  for (const auto& [node, messages] : early)
    for (const Message& message : messages) deliver(node, message, out);
  maybe_finish_drain(out);
}

// The others go on without this node: nobody will ever answer it.
void Core::on_evicted(Out& out) {
  phase_ = Phase::kLeft;
  end_all_jobs(std::nullopt, out);
  for (const auto& [key, pending] : pending_)
    if (pending.wanted != Access::kNone)
      out.act(action::Refuse{PageSet::of(page_of(key)), Refusal::kLeaving, config_.self});
  pending_.clear();
  reserved_ = 0;
}

// Nothing that waits for a message of an older epoch may go on waiting.
void Core::abandon_transit() {
  transactions_.clear();
  waiting_requests_.clear();
  deferred_.clear();
  injections_.clear();
  being_flushed_ = 0;
  std::vector<PageKey> empty;
  locals_.for_each([&](PageKey key, LocalPage& local) {
    local.flushing = false;
    // Bytes that came are current even if not every other copy is gone.
    if (local.state == PageState::kStored || local.state == PageState::kInjecting)
      local.state = PageState::kRead;
    // Whoever wanted it from the file is forgotten.
    if (local.state == PageState::kSwapped && home_of(page_of(key)) != kNoNode)
      local.state = PageState::kInvalid;
    if (local.state == PageState::kInvalid) empty.push_back(key);
  });
  for (PageKey key : empty) locals_.erase(key);

  std::vector<PageKey> unwanted;
  for (auto& [key, pending] : pending_) {
    const Access wanted = pending.wanted;
    const Pending::Job job = pending.job;
    if (pending.reserved) --reserved_;
    pending = Pending{};
    pending.access = pending.wanted = wanted;
    pending.job = job;
    if (job != Pending::Job::kNone)
      pending.access = job == Pending::Job::kDiscard ? Access::kWrite : Access::kRead;
    else if (wanted == Access::kNone)
      unwanted.push_back(key);
  }
  for (PageKey key : unwanted) drop_pending(page_of(key));
}

bool Core::heard_all(const std::set<NodeId>& from) const {
  // Asked after each arrival: looking at all each time would cost the square of the members.
  if (from.size() < view_.members.size()) return false;
  const auto heard = [&](NodeId node) { return from.contains(node); };
  return std::ranges::all_of(view_.members, heard) && std::ranges::all_of(view_.departing, heard);
}

// A message of an older epoch: its bytes may be the last copy; nothing else of it counts any more.
// Not even an invalidation: nobody will be told that it was done, so nobody will write.
void Core::absorb(const Message& message, Out& out) {
  if (!containers_.contains(message.pages.container)) return;
  for_each_page(message.pages, [&](PageId page) { absorb_page(message, page, out); });
}

void Core::absorb_page(const Message& message, PageId page, Out& out) {
  switch (message.type) {
    case MessageType::kPage:
    case MessageType::kGrant:
    case MessageType::kInject: {
      // A node that departs, or has said that it can, asked for nothing; who offers it a page keeps
      // the bytes.
      if (message.payload == Payload::kNone || view_.departs(config_.self) || left_said_) return;
      if (locals_.find(key_of(page)) != nullptr) return;
      set_state(page, PageState::kRead);
      LocalPage& arrived = locals_[key_of(page)];
      arrived.dirty =
          message.dirty || (message.type == MessageType::kGrant && home_of(page) != kNoNode);
      arrived.foreign = message.dirty && home_is_here(page);
      out.act(action::Install{PageSet::of(page), Access::kNone, message.payload == Payload::kZero});
      return;
    }
    case MessageType::kReport: {
      // Of a rebuilding that was overtaken: who holds it will be said again, that it existed may
      // not.
      DirectoryEntry& entry = directory_[key_of(page)];
      if (message.holding == Holding::kLost) {
        entry.lost = 1;
        entry.set_owner(message.node);
      }
      if (message.dirty) entry.dirty = 1;
      if (message.sole) entry.foreign = 1;
      return;
    }
    case MessageType::kConfirm:
    case MessageType::kFlushDone:
      // The file has it: if no copy is left, nothing is lost.
      if (DirectoryEntry* entry = directory_.find(key_of(page));
          entry != nullptr && message.written)
        entry->dirty = entry->foreign = 0;
      return;
    case MessageType::kExists:
      if (message.dirty) remember_dirty(page);
      return;
    case MessageType::kGet:
    case MessageType::kGrab:
    case MessageType::kForwardGet:
    case MessageType::kForwardGrab:
    case MessageType::kInvalidate:
    case MessageType::kInvalidateAck:
    case MessageType::kRefuse:
    case MessageType::kFlush:
    case MessageType::kFlushDiscard:
    case MessageType::kFlushAlone:
    case MessageType::kInjectReply:
    case MessageType::kWriteBack:
    case MessageType::kDiscard:
    case MessageType::kSync:
    case MessageType::kSyncEnd:
    case MessageType::kMarker:
    case MessageType::kReportEnd:
      return;
  }
}

void Core::maybe_finish_drain(Out& out) {
  if (phase_ != Phase::kDraining || !heard_all(markers_)) return;
  phase_ = Phase::kRebuilding;
  report_all(out);
  for (NodeId node : view_.members) {
    Message end;
    end.type = MessageType::kReportEnd;
    end.epoch = view_.epoch;
    send(node, end, out);
  }
  if (view_.departs(config_.self)) {
    phase_ = Phase::kLeft;
    end_all_jobs(std::nullopt, out);
    out.act(action::Serving{view_.epoch});
    return;
  }
  replay_early(out);
  std::vector<PageKey> parked;
  for (const auto& [key, pending] : pending_) parked.push_back(key);
  for (PageKey key : parked) retry(page_of(key), out);
  std::vector<ContainerId> syncing;
  for (const auto& [id, sync] : syncs_) syncing.push_back(id);
  for (ContainerId id : syncing) ask_managers(id, out);
}

void Core::replay_early(Out& out) {
  auto early = std::move(early_);
  early_.clear();
  for (auto& [node, messages] : early)
    for (const Message& message : messages) deliver(node, message, out);
}

// What this node holds, and what it managed, goes to the managers of the new view.
void Core::report_all(Out& out) {
  using Run = std::tuple<ContainerId, std::uint64_t, Holding, NodeId, bool, bool>;
  std::map<Run, std::uint64_t> runs;
  const auto note = [&](PageKey key, Holding holding, NodeId blamed, bool dirty, bool foreign) {
    const PageSet one = PageSet::of(page_of(key));
    runs[{one.container, one.stripe, holding, blamed, dirty, foreign}] |= one.mask;
  };
  // What the home of a file wrote and had not written back ends with it, as with any local program;
  // the file counts.
  const auto ended_with_home = [&](PageKey key, const DirectoryEntry& entry) {
    return entry.foreign == 0 && !view_.contains(home_of(page_of(key)));
  };
  directory_.for_each([&](PageKey key, const DirectoryEntry& entry) {
    if (entry.lost != 0)
      note(key, Holding::kLost, entry.owner(), false, false);
    else
      note(key, Holding::kExisted, kNoNode, entry.dirty != 0 && !ended_with_home(key, entry),
           entry.foreign != 0);
  });
  directory_.clear();
  locals_.for_each([&](PageKey key, const LocalPage& local) {
    // What is being read from a file is no copy yet.
    if (local.state == PageState::kSwappingIn && home_of(page_of(key)) != kNoNode) return;
    note(key, is_sole(local.state) ? Holding::kSole : Holding::kRead, kNoNode, local.dirty,
         local.foreign);
  });
  // As the home we know of pages that were being written, should manager and writer be dead.
  for (const auto& [stripe, mask] : file_dirty_)
    runs[{stripe.first, stripe.second, Holding::kExisted, kNoNode, true, false}] |= mask;
  for (const auto& [run, mask] : runs) {
    const auto& [container, stripe, holding, blamed, dirty, foreign] = run;
    Message report;
    report.type = MessageType::kReport;
    report.epoch = view_.epoch;
    report.holding = holding;
    report.node = blamed;
    report.dirty = dirty;
    report.sole = foreign;
    report.pages = PageSet{container, stripe, mask};
    send(view_.manager(container, stripe), report, out);
    // The home may have come back, and know nothing. It hears before the view is established: should
    // a manager end after that, the home knows.
    const NodeId home = home_of(container);
    if (!view_.contains(home) || !(dirty || holding == Holding::kLost)) continue;
    report.type = MessageType::kExists;
    report.holding = Holding::kExisted;
    report.node = kNoNode;
    report.dirty = true;
    report.sole = false;
    send(home, report, out);
  }
}

void Core::on_report(NodeId from, const Message& message, PageId page) {
  if (phase_ != Phase::kRebuilding) return;
  DirectoryEntry& entry = directory_[key_of(page)];
  if (message.dirty) entry.dirty = 1;
  // What others than the home have in memory does not end with the home.
  const bool held = message.holding == Holding::kRead || message.holding == Holding::kSole;
  if (message.sole || (message.dirty && held && from != home_of(page))) entry.foreign = 1;
  switch (message.holding) {
    case Holding::kExisted:
      return;
    case Holding::kLost:
      if (!entry.copyset().empty()) return;
      entry.lost = 1;
      entry.set_owner(message.node);
      return;
    case Holding::kRead:
    case Holding::kSole: {
      // The holder with the lowest id becomes the owner, whatever the order of the reports.
      NodeSet copyset = entry.copyset();
      if (copyset.empty() || from < entry.owner()) entry.set_owner(from);
      copyset.add(from);
      entry.set_copyset(copyset);
      entry.lost = 0;
      return;
    }
  }
}

void Core::maybe_serve(Out& out) {
  if (phase_ != Phase::kRebuilding || !heard_all(report_ends_)) return;
  phase_ = Phase::kServing;
  // Pages that existed and that nobody holds died with somebody.
  const NodeId blamed = view_.losses.empty() ? kNoNode : view_.losses.back().dead.front();
  std::vector<PageKey> in_file;
  directory_.for_each([&](PageKey key, DirectoryEntry& entry) {
    if (!entry.copyset().empty() || entry.lost != 0) return;
    if (home_of(page_of(key)) != kNoNode && entry.dirty == 0) return in_file.push_back(key);
    entry.lost = 1;
    entry.set_owner(blamed);
  });
  for (PageKey key : in_file) directory_.erase(key);
  out.act(action::Serving{view_.epoch});
  std::vector<PageKey> jobs;
  for (const auto& [key, pending] : pending_)
    if (pending.job != Pending::Job::kNone) jobs.push_back(key);
  for (PageKey key : jobs) retry(page_of(key), out);
  const auto requests = std::move(waiting_requests_);
  waiting_requests_.clear();
  for (const auto& [from, message] : requests) dispatch(from, message, out);
}

}  // namespace gob
