// The kernel's page cache above the mount, which holds copies that the core does not know of: it
// only ever holds pages that are readable on this node, and forgets them before another node may
// write. An invalidation here starts a notification and holds back what this node says about the
// page until it is done: to the other nodes a longer network delay, nothing more.
//
// No cycle: a page is called the kernel's only when the reply with its bytes is given, and a reply
// waits for nothing. A read of the page that arrives says that the kernel has none, and sets free
// what was held back on its account.
//
// A read of many pages must not starve while other nodes write them one by one: after some attempts
// pages that leave stay in its answer, and the write that takes them waits for the answer, but not
// longer than a moment, since the answer may wait for that very write.
#include <algorithm>

#include "libgob/runtime/shard.h"

namespace gob {

namespace {

constexpr unsigned kAttempts = 2;              // of a read, before its pages are kept
constexpr std::uint64_t kKeepNs = 20'000'000;  // so long at most

}  // namespace

void Shard::on_answered(PageSet pages, const std::shared_ptr<FileAccess>& access) {
  bool failed = false;
  {
    const std::lock_guard lock(access->mutex);
    failed = access->error.has_value();
  }
  const auto parts = parts_.find({pages.container, pages.stripe});
  if (parts != parts_.end()) {
    for (const std::shared_ptr<FilePart>& part : parts->second) {
      if (part->access != access) continue;
      part->over = true;
      if (failed) {
        end_kept(*part);
        continue;
      }
      // The kernel forgets these as soon as it has the answer.
      for (const std::uint64_t drop : std::exchange(part->kept_drops, {})) tell_kernel(drop);
    }
    revisit(pages);
  }
  if (!failed) kernel_has(pages, access->writes());
}

// A reply with the bytes of these pages is on its way to the kernel.
void Shard::kernel_has(PageSet pages, bool written) {
  if (kernel_ == nullptr || !files_.contains(pages.container)) return;
  std::uint64_t here = 0;
  for_each_page(pages, [&](PageId page) {
    if (is_readable(core_.local(page).state)) here |= PageSet::of(page).mask;
  });
  if (here != 0) {
    kernel_pages_[{pages.container, pages.stripe}] |= here;
    // From now on no mapping may change them without the kernel forgetting them first.
    if (written) must(linker_.downgrade(pages.with(here)));
  }
  // What was written here and has left since: the kernel may have kept it.
  if (written && (pages.mask & ~here) != 0) drop_from_kernel(pages.with(pages.mask & ~here), {});
}

void Shard::kernel_has_none(PageSet pages) {
  const auto found = kernel_pages_.find({pages.container, pages.stripe});
  if (found != kernel_pages_.end() && (found->second &= ~pages.mask) == 0)
    kernel_pages_.erase(found);
  if (drops_.empty()) return;
  for (const auto& then : drops_.forgotten(pages)) then();
  send_what_may_go(pages);
  finish_discards();
}

// The pages leave this node, or their bytes change by another way than the kernel's own: what was
// read and not yet given to the kernel is read again. Returns those that the kernel may hold, which
// are its no more: they have to be dropped. `except`: the part that changes them.
// `leaves`: they leave, and what this node says about them can wait.
std::uint64_t Shard::changes(PageSet pages, const FilePart* except, bool leaves) {
  std::uint64_t cached = 0;
  if (const auto found = kernel_pages_.find({pages.container, pages.stripe});
      found != kernel_pages_.end()) {
    cached = found->second & pages.mask;
    const bool own = except != nullptr && except->access->caching == Caching::kKernel;
    if (!own && (found->second &= ~pages.mask) == 0) kernel_pages_.erase(found);
  }
  const auto parts = parts_.find({pages.container, pages.stripe});
  if (parts == parts_.end()) return cached;
  for (const std::shared_ptr<FilePart>& part : parts->second) {
    const std::uint64_t stale = part->done & pages.mask;
    FileAccess& access = *part->access;
    if (part->over || stale == 0 || !access.must_stay_current()) continue;
    {
      const std::lock_guard lock(access.mutex);
      if (access.answered) {
        if (!access.error) cached |= stale;  // on_answered() is on its way
        continue;
      }
    }
    if (leaves && kernel_ != nullptr && part->undone >= kAttempts) {
      keep_in_answer(part, pages.with(stale));
      continue;
    }
    ++part->undone;
    if (!undo(*part, stale)) cached |= stale;
  }
  return cached;
}

// These pages of a read that is not answered are to be read again. False: another shard has just
// answered it, and they are the kernel's.
bool Shard::undo(FilePart& part, std::uint64_t mask) {
  FileAccess& access = *part.access;
  const std::lock_guard lock(access.mutex);
  if (access.answered) return access.error.has_value();
  part.done &= ~mask;
  if (part.counted) {
    part.counted = false;
    ++access.parts_left;
  }
  revisit(part.pages);
  return true;
}

void Shard::keep_in_answer(const std::shared_ptr<FilePart>& part, PageSet pages) {
  const std::uint64_t id = drops_.add(pages, {});
  if (part->kept_drops.empty()) kept_.push_back({now_ns_ + kKeepNs, part});
  part->kept_drops.push_back(id);
}

// The read takes too long, or has failed: what waits for it goes on.
void Shard::end_kept(FilePart& part) {
  for (const std::uint64_t id : std::exchange(part.kept_drops, {})) {
    const KernelDrops::Drop* const drop = drops_.find(id);
    if (drop == nullptr) continue;
    if (part.over || undo(part, drop->pages.mask))
      drops_.erase(id);
    else
      part.kept_drops.push_back(id);  // on_answered() is on its way, and has the kernel forget them
  }
  send_what_may_go(part.pages);
  finish_discards();
}

void Shard::expire_kept() {
  while (!kept_.empty() && kept_.front().deadline_ns <= now_ns_) {
    const std::shared_ptr<FilePart> part = std::move(kept_.front().part);
    kept_.pop_front();
    if (part->kept_drops.empty()) continue;
    bool answered = false;
    {
      const std::lock_guard lock(part->access->mutex);
      answered = part->access->answered && !part->access->error;
    }
    if (answered) continue;  // on_answered() is on its way
    end_kept(*part);
  }
}

// The frames of these pages are gone: nothing about them is said until the kernel's are, too.
void Shard::left_node(PageSet pages) {
  const std::uint64_t cached = changes(pages, nullptr, true);
  if (cached != 0) drop_from_kernel(pages.with(cached), {});
}

void Shard::drop_from_kernel(PageSet pages, std::function<void()> then) {
  if (kernel_ == nullptr) {
    if (then) then();
    return;
  }
  tell_kernel(drops_.add(pages, std::move(then)));
}

void Shard::tell_kernel(std::uint64_t id) {
  KernelDrops::Drop* const drop = drops_.find(id);
  if (drop == nullptr) return;
  const PageSet pages = drop->pages;
  if (pages.empty() || kernel_ == nullptr) {
    drops_.erase(id);
    send_what_may_go(pages);
    return finish_discards();
  }
  std::vector<std::pair<PageIndex, unsigned>> runs;
  for_each_run(pages, [&](PageIndex first, unsigned count) { runs.emplace_back(first, count); });
  drop->runs_left = runs.size();
  for (const auto& [first, count] : runs) {
    kernel_->drop(pages.container, first, count,
                  [this, id] { post_reply([id](Shard& shard) { shard.dropped(id); }); });
  }
}

void Shard::dropped(std::uint64_t id) {
  KernelDrops::Drop* const drop = drops_.find(id);
  if (drop == nullptr || --drop->runs_left != 0) return;
  const PageSet pages = drop->pages;
  const std::function<void()> then = std::move(drop->then);
  drops_.erase(id);
  if (then) then();
  send_what_may_go(pages);
  finish_discards();
  settle_files();
}

// A program gets write access by a mapping, of which the kernel's copy would not know. Returns the
// pages that have to wait; they are mapped when the kernel has forgotten them.
std::uint64_t Shard::wait_for_kernel(PageSet pages) {
  if (!files_.contains(pages.container)) return 0;
  if (!linker_.has_mappings(pages.container)) return 0;
  const std::uint64_t cached = changes(pages, nullptr);
  if (cached == 0) return 0;
  drop_from_kernel(pages.with(cached), [this, later = pages.with(cached)] {
    std::uint64_t ours = 0;
    for_each_page(later, [&](PageId page) {
      if (core_.local(page).state == PageState::kWrite) ours |= PageSet::of(page).mask;
    });
    if (ours != 0) {
      must(linker_.map(later.with(ours), Access::kWrite));
      note_resolved(later.with(ours));
    }
    // It was taken away meanwhile: whoever waits asks anew.
    const PageSet lost = later.with(later.mask & ~ours);
    if (!lost.empty() && linker_.waits_for(lost)) step(event::Touch{lost, Access::kWrite, 0});
  });
  return cached;
}

// Keeps the message if it has to wait, or as much of it as has to. Pages of memory are never the
// kernel's: only a message that speaks of all pages can be in their way.
bool Shard::hold_back(NodeId to, const Message& message, std::span<const std::byte> payload) {
  if (held_messages_.passes(message) && drops_.among(message.pages) == 0) return false;
  if (!held_messages_.add({to, message, {payload.begin(), payload.end()}})) {
    // As with a peer that does not take what is sent: the link ends, and the view changes.
    channel_->drop(
        to, DownReason::kLocal,
        "more than " + std::to_string(kMostHeldBytes) +
            " bytes for it would wait until the kernel here has forgotten pages of files");
    return true;
  }
  send_what_may_go(message.pages);
  return true;
}

void Shard::send_what_may_go(const PageSet& changed) {
  held_messages_.release(
      changed, [this](const PageSet& pages) { return drops_.among(pages); },
      [this](HeldMessages::Held& held) {
        transmit(held.to, held.message, held.payload.data(), held.payload.size());
      });
}

// Who asked for a discard goes on when the kernel of this node has forgotten the pages, too.
bool Shard::hold_back(const action::JobDone& done) {
  if (!done.discard || drops_.among(done.pages) == 0) return false;
  held_discards_.push_back(done);
  return true;
}

void Shard::finish_discards() {
  for (const action::JobDone& done : std::exchange(held_discards_, {})) perform_one(done);
}

}  // namespace gob
