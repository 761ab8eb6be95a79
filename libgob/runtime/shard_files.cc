// A shard's pages of files: reads and writes of FileData wait for pages like programs do. Bytes are
// looked at only while the core says that the page is readable here, and changed only while it says
// writable.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstring>

#include "libgob/runtime/clock.h"
#include "libgob/runtime/shard.h"
#include "libgob/runtime/words.h"

namespace gob {

namespace {

Error access_refused(PageId page, Refusal refusal, const std::string& node) {
  return make_error(refusal == Refusal::kNoRoom ? ErrorCode::kNoSpace : ErrorCode::kLost,
                    "page " + std::to_string(page.page.value()) + " of container " +
                        std::to_string(page.container.value()) + ": " + to_words(refusal) +
                        " (node " + node + ")",
                    refusal == Refusal::kNoRoom ? ENOSPC : EIO);
}

// The bytes of an access in a run of its pages: [begin, end) of the file.
struct Cut {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};
Cut cut_of(const FileAccess& access, PageIndex first, unsigned count) {
  return {std::max(access.offset, first.value() * kPageSize),
          std::min(access.end(), (first.value() + count) * kPageSize)};
}

}  // namespace

void Shard::start_access(const std::shared_ptr<FileAccess>& access, PageSet pages,
                         std::uint64_t ahead) {
  auto part = std::make_shared<FilePart>();
  part->access = access;
  part->pages = pages;
  part->ahead = ahead;
  part->since_ns = now_ns_;
  // The kernel asks for these pages, or fills them: it has none that are older.
  if (access->caching == Caching::kKernel) kernel_has_none(pages);
  parts_[{pages.container, pages.stripe}].push_back(part);
  revisit(pages);
  // What no frame could be made for is not asked for.
  if (const Status frames = has_frames(pages.container); !frames) end_part(*part, frames.error());
  settle_files();
}

// The first use of a container takes a descriptor, and there may be none: then nothing may arrive
// that needs it.
Status Shard::has_frames(ContainerId id) const {
  const auto pool = pools_.find(id);
  if (pool == pools_.end()) return {};  // whoever looks for it will not find it
  const Result<int> memory = pool->second->fd();
  return memory ? Status() : Status(memory.error());
}

void Shard::ask_file_ahead(PageSet pages, Access access) {
  if (access == Access::kRead && read_window_.busy()) return;
  if (!pools_.contains(pages.container) || !has_frames(pages.container)) return;
  step(event::Touch{pages.with(0), access, pages.mask});
}

// Something changed for these pages: their accesses are looked at once the core's actions are done.
void Shard::revisit(PageSet pages) {
  if (parts_.contains({pages.container, pages.stripe}))
    revisit_.insert({pages.container, pages.stripe});
}

void Shard::settle_files() {
  if (stepping_ || settling_) return;
  settling_ = true;
  while (!revisit_.empty() || !jobs_to_go_on_.empty()) {
    if (!jobs_to_go_on_.empty()) {
      const std::shared_ptr<FileJob> job = std::move(jobs_to_go_on_.front());
      jobs_to_go_on_.pop_front();
      go_on(job);
      continue;
    }
    const FileStripe stripe = *revisit_.begin();
    revisit_.erase(revisit_.begin());
    const auto found = parts_.find(stripe);
    if (found == parts_.end()) continue;
    // Answering may bring new accesses of the same stripe.
    const std::vector<std::shared_ptr<FilePart>> parts = found->second;
    for (const std::shared_ptr<FilePart>& part : parts)
      if (!part->over) advance(part);
    const auto still = parts_.find(stripe);
    if (still == parts_.end()) continue;
    std::erase_if(still->second, [](const auto& part) { return part->over; });
    if (still->second.empty()) parts_.erase(still);
  }
  settling_ = false;
}

void Shard::advance(const std::shared_ptr<FilePart>& part) {
  FileAccess& access = *part->access;
  const Access wanted = access.wanted();
  std::uint64_t ready = 0;
  std::uint64_t missing = 0;
  for_each_page(part->pages.with(part->pages.mask & ~part->done), [&](PageId page) {
    const std::uint64_t bit = PageSet::of(page).mask;
    const PageState state = core_.local(page).state;
    if (wanted == Access::kWrite ? state == PageState::kWrite : is_readable(state)) {
      ready |= bit;
    } else {
      const Pending* pending = core_.pending(page);
      if (pending == nullptr || pending->wanted < wanted) missing |= bit;
    }
  });
  if (ready != 0) {
    if (const Status status = transfer(part, part->pages.with(ready)); !status)
      return end_part(*part, status.error());
    part->done |= ready;
  }
  if (part->done == part->pages.mask) {
    if (part->drops == 0) end_part(*part, std::nullopt);
    return;
  }
  const auto file = files_.find(access.container);
  const bool is_home = file != files_.end() && file->second.home == config_.core.self;
  // What the home reads is on its disk, mostly; who is counted asks for what it has room for.
  const bool bounded = wanted == Access::kRead && !is_home && !access.counted;
  if (missing != 0 && (!bounded || read_window_.enter(part, part->pages.with(missing).size()))) {
    const bool busy = wanted == Access::kRead && read_window_.busy();
    const std::uint64_t ahead = busy ? 0 : part->ahead & ~part->pages.mask;
    step(event::Touch{part->pages.with(missing), wanted, ahead});
    part->ahead = 0;
  }
}

// The bytes of some pages, all of which the core allows to be looked at or changed.
Status Shard::transfer(const std::shared_ptr<FilePart>& part, PageSet pages) {
  FileAccess& access = *part->access;
  // What the kernel keeps must not change under it by a program's mapping.
  if (access.must_stay_current())
    if (Status status = linker_.downgrade(pages); !status) return status;
  if (linker_.is_linked(pages.container))
    return make_error(ErrorCode::kUnavailable,
                      "container " + std::to_string(pages.container.value()) +
                          " is linked to a segment of this node; use that, or detach it",
                      EBUSY);
  const FramePool& pool = *pools_.at(pages.container);
  if (!access.writes()) return read_frames(pool, access, pages);
  fresh_ = PageSet{};
  const std::uint64_t cached = changes(pages, part.get());
  if (access.caching == Caching::kNone && cached != 0) {
    ++part->drops;
    drop_from_kernel(pages.with(cached), [this, part] {
      --part->drops;
      revisit(part->pages);
    });
  }
  Status status;
  for_each_run(pages, [&](PageIndex first, unsigned count) {
    const Cut cut = cut_of(access, first, count);
    const std::span bytes(access.in + (cut.begin - access.offset), cut.end - cut.begin);
    if (const Status moved = pool.write_bytes(cut.begin, bytes); !moved) status = moved;
  });
  return status;
}

// What has just arrived is at hand in the processor's cache, and takes no system call.
Status Shard::read_frames(const FramePool& pool, FileAccess& access, PageSet pages) {
  const bool same = fresh_.container == pages.container && fresh_.stripe == pages.stripe;
  const PageSet at_hand = pages.with(same ? pages.mask & fresh_.mask : 0);
  for_each_run(at_hand, [&](PageIndex first, unsigned count) {
    const Cut cut = cut_of(access, first, count);
    std::memcpy(access.out + (cut.begin - access.offset),
                payload_.at(first) + cut.begin % kPageSize, cut.end - cut.begin);
  });
  Status status;
  for_each_run(pages.with(pages.mask & ~at_hand.mask), [&](PageIndex first, unsigned count) {
    const Cut cut = cut_of(access, first, count);
    const std::span bytes(access.out + (cut.begin - access.offset), cut.end - cut.begin);
    if (const Status read = pool.read_bytes(cut.begin, bytes); !read) status = read;
  });
  return status;
}

// This part is done, or has failed. The last one answers.
void Shard::end_part(FilePart& part, const std::optional<Error>& error) {
  FileAccess& access = *part.access;
  FileAccess::Answer answer;
  {
    const std::lock_guard lock(access.mutex);
    answer = access.end_parts(std::exchange(part.counted, true) ? 0 : 1, error);
  }
  // It stays only to be read again should a page leave before the answer.
  const bool may_be_undone = access.must_stay_current() && !error && access.parts.size() > 1;
  if (!may_be_undone) part.over = true;
  read_window_.leave(part, [this](const auto& next) { revisit(next->pages); });
  if (error) end_kept(part);
  if (!answer.done) return;
  if (access.caching == Caching::kKernel) {
    for (const PageSet& pages : access.parts) {
      Shard& owner = shard_of(pages.stripe);
      if (&owner == this)
        on_answered(pages, part.access);
      else
        owner.post_reply([pages, kept = part.access](Shard& shard) {
          shard.on_answered(pages, kept);
          shard.settle_files();
        });
    }
  }
  answer.done(answer.error ? Status(*answer.error) : Status());
}

void Shard::refuse_parts(PageSet pages, Refusal refusal, NodeId blamed) {
  const auto found = parts_.find({pages.container, pages.stripe});
  if (found == parts_.end()) return;
  for (const std::shared_ptr<FilePart>& part : found->second) {
    const std::uint64_t refused = part->pages.mask & ~part->done & pages.mask;
    if (part->over || refused == 0) continue;
    const PageSet set = pages.with(refused & (~refused + 1));
    end_part(*part, access_refused({set.container, set.last()}, refusal, name_of(blamed)));
  }
  revisit(pages);
}

// Nobody waits longer than the configured time.
void Shard::expire_parts(std::uint64_t since_ns) {
  std::vector<PageSet> overdue;
  for (const auto& [stripe, parts] : parts_)
    for (const std::shared_ptr<FilePart>& part : parts)
      if (!part->over && !part->counted && part->since_ns <= since_ns)
        overdue.push_back(part->pages.with(part->pages.mask & ~part->done));
  for (const PageSet& pages : overdue) {
    if (!pages.empty()) step(event::Expire{pages});
    refuse_parts(pages, Refusal::kTimedOut, config_.core.self);
  }
  settle_files();
}

void Shard::forget_file(ContainerId id) {
  awaited_files_.erase(id);
  std::vector<std::shared_ptr<FilePart>> parts;
  for (auto it = parts_.lower_bound({id, 0}); it != parts_.end() && it->first.first == id;) {
    parts.insert(parts.end(), it->second.begin(), it->second.end());
    it = parts_.erase(it);
  }
  for (const std::shared_ptr<FilePart>& part : parts) {
    if (part->over || part->counted) continue;
    end_part(*part, access_refused({id, part->pages.last()}, Refusal::kRemoved,
                                   name_of(config_.core.self)));
  }
  // Descriptors that are still open must not find old bytes.
  for (auto it = kernel_pages_.lower_bound({id, 0});
       it != kernel_pages_.end() && it->first.first == id;) {
    const PageSet pages{id, it->first.second, it->second};
    it = kernel_pages_.erase(it);
    drop_from_kernel(pages, {});
  }
  files_.erase(id);
  pools_.erase(id);
  file_errors_.erase(id);
  settle_files();  // parts of other files may have been waiting behind these
}

}  // namespace gob
