// What the home of a file does on its own account: write-back (paper figure 5), discarding what a
// truncation cuts off, and learning which pages are where. Jobs are requests like those of
// programs: one for each page at a time, ended by the answer of the page's manager.
#include "libgob/protocol/core.h"
#include "libgob/protocol/outbox.h"

namespace gob {

void Core::start_job(PageId page, Pending::Job job, Out& out) {
  const bool discard = job == Pending::Job::kDiscard;
  const auto container = containers_.find(page.container);
  if (container == containers_.end() || container->second.home != config_.self ||
      page.page.value() >= container->second.pages)
    return out.act(action::JobDone{PageSet::of(page), discard, Refusal::kRemoved});
  if (phase_ == Phase::kLeft || left_said_)
    return out.act(action::JobDone{PageSet::of(page), discard, Refusal::kLeaving});
  const auto [found, is_new] = pending_.try_emplace(key_of(page));
  if (!is_new) {
    jobs_wait_[key_of(page)].insert(job);
    return;
  }
  found->second.job = job;
  found->second.access = discard ? Access::kWrite : Access::kRead;
  send_job(page, found->second, out);
}

// Parked unless the page is at rest here: whatever ends that state retries.
void Core::send_job(PageId page, Pending& pending, Out& out) {
  // While the view is rebuilt, word of pages that are newer than the file is still on its way here.
  if (phase_ != Phase::kServing) return;
  const LocalPage here = local(page);
  const bool at_rest = here.state == PageState::kInvalid || here.state == PageState::kRead ||
                       here.state == PageState::kWrite;
  if (here.flushing || !at_rest) return;
  const bool write_back = pending.job == Pending::Job::kWriteBack;
  // What is on its way to the disk must not come there after the page was discarded.
  if (!write_back && writing_.contains(key_of(page))) return;
  pending.stage = Pending::Stage::kSent;
  send(manager(page), make(write_back ? MessageType::kWriteBack : MessageType::kDiscard, page),
       out);
}

// Jobs that came while a request for their page was under way.
void Core::run_waiting_jobs(Out& out) {
  while (!jobs_ready_.empty()) {
    const PageKey key = *jobs_ready_.begin();
    jobs_ready_.erase(jobs_ready_.begin());
    const auto found = jobs_wait_.find(key);
    if (found == jobs_wait_.end() || pending_.contains(key)) continue;
    const std::set<Pending::Job> jobs = std::move(found->second);
    jobs_wait_.erase(found);
    for (const Pending::Job job : jobs) start_job(page_of(key), job, out);
  }
}

// The manager's part: the home gets a readable copy, and its confirmation says that the file has
// the bytes. Until then the transaction is open, so that nobody writes in between.
void Core::start_write_back(PageId page, DirectoryEntry& entry, NodeId requester, Out& out) {
  if (entry.dirty == 0) return refuse(page, requester, Refusal::kSkipped, config_.self, out);
  Transaction& transaction = transactions_[key_of(page)];
  transaction.type = MessageType::kGet;
  transaction.requesters.push_back(requester);
  if (entry.owner() == requester || (exact_copysets() && entry.copyset().has(requester))) {
    Message message = make(MessageType::kPage, page);
    message.confirm = true;
    return send(requester, message, out);
  }
  if (may_serve(page, false, out)) return serve_copy(page, requester, true, out);
  Message message = make(MessageType::kForwardGet, page);
  message.requester = requester;
  send(entry.owner(), message, out);
}

void Core::start_discard(PageId page, DirectoryEntry& entry, NodeId requester, Out& out) {
  Transaction& transaction = transactions_[key_of(page)];
  transaction.type = MessageType::kDiscard;
  transaction.requesters.push_back(requester);
  std::uint32_t acks = 0;
  for (NodeId node : view_.members) {
    if (!entry.copyset().has(node) || node == requester) continue;
    Message message = make(MessageType::kInvalidate, page);
    message.requester = requester;
    message.device = true;
    send(node, message, out);
    ++acks;
  }
  Message message = make(MessageType::kGrant, page);
  message.acks = acks;
  message.confirm = true;
  send(requester, message, out);
}

// The home's part: its own copy, or the bytes that came, are current, and stay so until it confirms.
// Bytes that came take no frame: whoever is short of frames can be written back all the same.
void Core::write_back_here(PageId page, bool arrived, Out& out) {
  Pending& pending = pending_.find(key_of(page))->second;
  pending.stage = Pending::Stage::kGranted;
  pending.confirm = true;
  pending.device = true;
  if (local(page).state == PageState::kWrite) {
    out.act(action::Downgrade{PageSet::of(page)});
    set_state(page, PageState::kRead);
  }
  ++writing_[key_of(page)];
  out.act(action::WriteBack{PageSet::of(page), arrived});
}

void Core::on_written_back(PageId page, bool ok, Out& out) {
  const auto writing = writing_.find(key_of(page));
  if (writing == writing_.end()) return;  // removed meanwhile
  if (--writing->second != 0) return;     // a newer write of it follows
  writing_.erase(writing);
  const auto found = pending_.find(key_of(page));
  if (found == pending_.end() || found->second.job != Pending::Job::kWriteBack ||
      !found->second.device)
    return retry(page, out);  // a view change came between: it is asked for again
  if (ok) kept_in_a_row_ = 0;  // what the disk refused before, it may take now
  if (LocalPage* here = locals_.find(key_of(page)); here != nullptr && ok)
    here->dirty = here->foreign = false;
  end_job(page, ok ? Refusal::kNone : Refusal::kIo, ok, out);
}

// All others have dropped theirs. A program here has its turn first; then this is called again.
void Core::complete_discard(PageId page, Out& out) {
  if (local(page).held) return;
  if (local(page).state != PageState::kInvalid) invalidate_local(page, out);
  end_job(page, Refusal::kNone, true, out);
}

// `written`: what the manager may forget. A program that came to wait meanwhile asks afresh.
void Core::end_job(PageId page, Refusal refusal, bool written, Out& out) {
  const Pending pending = pending_.find(key_of(page))->second;
  drop_pending(page);
  const PageSet set = PageSet::of(page);
  // What is lost stays so until it is discarded: should its manager die, this node still knows.
  if (written) forget_dirty(page);
  if (pending.confirm) {
    Message message = make(MessageType::kConfirm, page);
    message.written = written;
    message.refusal = pending.refusal;
    message.device = !is_resident(local(page).state);
    send(manager(page), message, out);
  }
  out.act(action::JobDone{set, pending.job == Pending::Job::kDiscard, refusal});
  if (pending.wanted != Access::kNone) touch(page, pending.wanted, true, out);
}

// Nobody will answer them any more: those of one container, or all.
void Core::end_all_jobs(std::optional<ContainerId> only, Out& out) {
  const auto concerned = [&](ContainerId id) { return !only || id == *only; };
  const auto end = [&](PageKey key, Pending::Job job) {
    out.act(action::JobDone{PageSet::of(page_of(key)), job == Pending::Job::kDiscard,
                            only ? Refusal::kRemoved : Refusal::kLeaving});
  };
  std::vector<PageKey> ended;
  for (auto& [key, pending] : pending_) {
    if (pending.job == Pending::Job::kNone || !concerned(page_of(key).container)) continue;
    end(key, pending.job);
    ended.push_back(key);
  }
  std::erase_if(jobs_wait_, [&](const auto& item) {
    if (!concerned(page_of(item.first).container)) return false;
    for (const Pending::Job job : item.second) end(item.first, job);
    return true;
  });
  std::erase_if(syncs_, [&](const auto& item) {
    if (!concerned(item.first)) return false;
    out.act(action::Synced{item.first, only ? Refusal::kRemoved : Refusal::kLeaving});
    return true;
  });
  if (only) return;  // whoever removes a container drops its requests
  for (PageKey key : ended)
    if (pending_.find(key)->second.wanted == Access::kNone) drop_pending(page_of(key));
}

// A manager tells the home of a page that is about to be written before it grants it; links are
// FIFO; so when every manager has answered, the home knows of every write that had ended before.
void Core::start_sync(ContainerId id, bool list, Out& out) {
  if (home_of(id) != config_.self) return out.act(action::Synced{id, Refusal::kRemoved});
  // Others have written since, without telling this node.
  if (phase_ == Phase::kLeft) return out.act(action::Synced{id, Refusal::kLeaving});
  Syncing& syncing = syncs_[id];
  syncing.list = syncing.list || list;
  ask_managers(id, out);
}

void Core::ask_managers(ContainerId id, Out& out) {
  if (phase_ != Phase::kServing && phase_ != Phase::kRebuilding) return;
  Syncing& syncing = syncs_[id];
  syncing.missing = {view_.members.begin(), view_.members.end()};
  if (syncing.list) {
    erase_stripes(file_listed_, id);
    // A view change may have forgotten who asked for what is still being read from the file here: no
    // manager knows of it, and who asks next is answered with these bytes.
    for (PageKey key : locals_.keys_of(id))
      if (locals_.find(key)->state == PageState::kSwappingIn) {
        const PageSet page = PageSet::of(page_of(key));
        file_listed_[{id, page.stripe}] |= page.mask;
      }
  }
  for (NodeId node : view_.members) {
    Message message = make(MessageType::kSync, {id, PageIndex{0}});
    message.sole = syncs_[id].list;
    send(node, message, out);
  }
}

void Core::on_sync(NodeId from, const Message& message, Out& out) {
  const ContainerId id = message.pages.container;
  if (from != home_of(id)) {
    out.act(action::Violation{from, message, "a node that is not the home speaks for the file"});
    return;
  }
  if (message.sole) {
    const auto list = [&](PageKey key) {
      Message exists = make(MessageType::kExists, page_of(key));
      exists.sole = true;
      send(from, exists, out);
    };
    for (PageKey key : directory_.keys_of(id)) list(key);
    // One that is being read from the file has no entry before its reader confirms.
    for (const auto& [key, transaction] : transactions_)
      if (page_of(key).container == id && directory_.find(key) == nullptr) list(key);
  }
  send(from, make(MessageType::kSyncEnd, {id, PageIndex{0}}), out);
}

void Core::on_sync_end(NodeId from, const Message& message, Out& out) {
  const auto found = syncs_.find(message.pages.container);
  if (found == syncs_.end() || found->second.missing.erase(from) == 0 ||
      !found->second.missing.empty())
    return;
  syncs_.erase(found);
  out.act(action::Synced{message.pages.container, Refusal::kNone});
}

void Core::on_exists(NodeId from, const Message& message, Out& out) {
  const PageSet pages = message.pages;
  if (home_of(pages.container) != config_.self) {
    out.act(action::Violation{from, message, "news of a file to a node that does not have it"});
    return;
  }
  if (message.sole) file_listed_[{pages.container, pages.stripe}] |= pages.mask;
  if (message.dirty) file_dirty_[{pages.container, pages.stripe}] |= pages.mask;
  if (message.requester == kNoNode) return;
  Message ack = make(MessageType::kInvalidateAck, {pages.container, pages.last()});
  ack.pages = pages;
  ack.requester = message.requester;
  ack.dirty = true;
  send(message.requester, ack, out);
}

std::vector<PageSet> Core::file_pages(ContainerId id, bool listed) const {
  std::vector<PageSet> pages;
  const auto& from = listed ? file_listed_ : file_dirty_;
  for (auto it = from.lower_bound({id, 0}); it != from.end() && it->first.first == id; ++it)
    pages.push_back({id, it->first.second, it->second});
  return pages;
}

std::vector<ContainerId> Core::dirty_files() const {
  std::vector<ContainerId> files;
  for (const auto& [stripe, mask] : file_dirty_)
    if (files.empty() || files.back() != stripe.first) files.push_back(stripe.first);
  return files;
}

}  // namespace gob
