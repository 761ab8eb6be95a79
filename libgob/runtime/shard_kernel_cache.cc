// The kernel's page cache above the mount, which holds copies that the core does not know of: it
// only ever holds pages that are readable on this node, and forgets them before another node may
// write. An invalidation here starts a notification and holds back what this node says about the
// page until it is done: to the other nodes a longer network delay, nothing more.
//
// No cycle: a page is called the kernel's only when the reply with its bytes is given, and a reply
// waits for nothing. A read of the page that arrives says that the kernel has none, and sets free
// what was held back on its account.
#include <algorithm>

#include "libgob/runtime/shard.h"

namespace gob {

namespace {

bool overlap(const PageSet& a, const PageSet& b) {
  return a.container == b.container && a.stripe == b.stripe && (a.mask & b.mask) != 0;
}

bool speaks_of_all(const Message& message) {
  return message.type == MessageType::kMarker || message.type == MessageType::kReportEnd;
}

}  // namespace

// A reply with the bytes of these pages is on its way to the kernel.
void Shard::kernel_has(PageSet pages, const std::shared_ptr<FileAccess>& access) {
  const auto parts = parts_.find({pages.container, pages.stripe});
  if (parts != parts_.end()) {
    for (const std::shared_ptr<FilePart>& part : parts->second)
      if (part->access == access) part->over = true;
    revisit(pages);
  }
  if (kernel_ == nullptr || !files_.contains(pages.container)) return;
  std::uint64_t here = 0;
  for_each_page(pages, [&](PageId page) {
    if (is_readable(core_.local(page).state)) here |= PageSet::of(page).mask;
  });
  if (here != 0) {
    kernel_pages_[{pages.container, pages.stripe}] |= here;
    // From now on no mapping may change them without the kernel forgetting them first.
    if (access->writes()) must(linker_.downgrade(pages.with(here)));
  }
  // What was written here and has left since: the kernel may have kept it.
  if (access->writes() && (pages.mask & ~here) != 0)
    drop_from_kernel(pages.with(pages.mask & ~here), {});
}

void Shard::kernel_has_none(PageSet pages) {
  const auto found = kernel_pages_.find({pages.container, pages.stripe});
  if (found != kernel_pages_.end() && (found->second &= ~pages.mask) == 0)
    kernel_pages_.erase(found);
  if (drops_.empty()) return;
  std::vector<std::function<void()>> over;
  for (auto& [id, drop] : drops_) {
    if (!overlap(drop.pages, pages)) continue;
    drop.pages.mask &= ~pages.mask;
    if (drop.pages.empty() && drop.then) over.push_back(std::exchange(drop.then, nullptr));
  }
  for (const auto& then : over) then();
  send_what_may_go();
}

// The pages leave this node, or their bytes change by another way than the kernel's own: what was
// read and not yet given to the kernel is read again. Returns those that the kernel may hold, which
// are its no more: they have to be dropped. `except`: the part that changes them.
std::uint64_t Shard::changes(PageSet pages, const FilePart* except) {
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
    const std::lock_guard lock(access.mutex);
    if (access.answered) {
      if (!access.error) cached |= stale;  // kernel_has() is on its way
      continue;
    }
    part->done &= ~stale;
    if (part->counted) {
      part->counted = false;
      ++access.parts_left;
    }
    revisit(pages);
  }
  return cached;
}

// The frames of these pages are gone: nothing about them is said until the kernel's are, too.
void Shard::left_node(PageSet pages) {
  const std::uint64_t cached = changes(pages, nullptr);
  if (cached != 0) drop_from_kernel(pages.with(cached), {});
}

void Shard::drop_from_kernel(PageSet pages, std::function<void()> then) {
  if (kernel_ == nullptr) {
    if (then) then();
    return;
  }
  const std::uint64_t id = next_drop_++;
  KernelDrop& drop = drops_[id];
  drop.pages = pages;
  drop.then = std::move(then);
  std::vector<std::pair<PageIndex, unsigned>> runs;
  for_each_run(pages, [&](PageIndex first, unsigned count) { runs.emplace_back(first, count); });
  drop.runs_left = runs.size();
  for (const auto& [first, count] : runs) {
    kernel_->drop(pages.container, first, count, [this, id] {
      // Nothing may be forgotten here: messages wait for it.
      while (!stop_.load() && !post([id](Shard& shard) { shard.dropped(id); }))
        std::this_thread::yield();
    });
  }
}

void Shard::dropped(std::uint64_t id) {
  const auto found = drops_.find(id);
  if (found == drops_.end() || --found->second.runs_left != 0) return;
  const std::function<void()> then = std::move(found->second.then);
  drops_.erase(found);
  if (then) then();
  send_what_may_go();
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

// For each page and peer the order of messages stays as it was; markers stay behind everything.
bool Shard::must_wait(const HeldMessage& next, std::size_t before) const {
  for (const auto& [id, drop] : drops_)
    if (overlap(drop.pages, next.message.pages)) return true;
  for (std::size_t i = 0; i < before; ++i) {
    const HeldMessage& earlier = held_messages_[i];
    if (earlier.to != next.to) continue;
    if (speaks_of_all(earlier.message) || speaks_of_all(next.message) ||
        overlap(earlier.message.pages, next.message.pages))
      return true;
  }
  return false;
}

void Shard::send_what_may_go() {
  for (std::size_t i = 0; i < held_messages_.size();) {
    if (must_wait(held_messages_[i], i)) {
      ++i;
      continue;
    }
    HeldMessage message = std::move(held_messages_[i]);
    held_messages_.erase(held_messages_.begin() + static_cast<std::ptrdiff_t>(i));
    transmit(message.to, message.message, message.payload.data(), message.payload.size());
  }
}

}  // namespace gob
