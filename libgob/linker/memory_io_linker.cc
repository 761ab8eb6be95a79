#include "libgob/linker/memory_io_linker.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "libgob/linker/page_checksum.h"

namespace gob {
namespace {

// Page-aligned, as transfers past the page cache demand.
struct AlignedDelete {
  void operator()(std::byte* bytes) const {
    ::operator delete (bytes, std::align_val_t{kPageSize});
  }
};
using AlignedBytes = std::unique_ptr<std::byte, AlignedDelete>;

AlignedBytes aligned_pages(unsigned count) {
  return AlignedBytes(static_cast<std::byte*>(
      ::operator new (count* kPageSize, std::align_val_t{kPageSize}, std::nothrow)));
}

}  // namespace

class MemoryIoLinker::Job final : public IoJob {
 public:
  // `bytes`: of a flush.
  Job(IoCompletion::Kind kind, PageSet pages, SwapFile& file, AlignedBytes bytes = nullptr)
      : kind_(kind), pages_(pages), file_(file), bytes_(std::move(bytes)) {}

  void run() override {
    switch (kind_) {
      case IoCompletion::Kind::kFlushed:
        for_each_sum([&](PageKey, std::uint32_t now) { sums_.push_back(now); });
        status_ = file_.write(slots_, bytes_.get());
        return;
      case IoCompletion::Kind::kTouched:
        // Not before: many may wait for their turn.
        bytes_ = aligned_pages(pages_.size());
        status_ = bytes_ ? file_.read(slots_, bytes_.get())
                         : Status(make_error(ErrorCode::kNoSpace,
                                             "no memory for pages to be read from swap", ENOMEM));
        if (status_) verify();
        return;
    }
  }

  // Shard's thread, before it is submitted and after it ended.
  [[nodiscard]] IoCompletion::Kind kind() const { return kind_; }
  [[nodiscard]] PageSet pages() const { return pages_; }
  [[nodiscard]] const Status& status() const { return status_; }
  [[nodiscard]] std::byte* bytes() const { return bytes_.get(); }
  // In the order of the pages; of a read: what they must be.
  std::vector<SlotAllocator::Slot> slots_;
  std::vector<std::uint32_t> sums_;

 private:
  template <class F>
  void for_each_sum(F&& f) const {
    const std::byte* at = bytes_.get();
    for_each_page(pages_, [&](PageId page) {
      f(key_of(page), page_checksum(key_of(page), at));
      at += kPageSize;
    });
  }
  void verify() {
    std::size_t i = 0;
    for_each_sum([&](PageKey key, std::uint32_t now) {
      if (now == sums_[i]) {
        ++i;
        return;
      }
      status_ = make_error(ErrorCode::kLost,
                           "page " + std::to_string(page_of(key).page.value()) + " of container " +
                               std::to_string(page_of(key).container.value()) +
                               " came back changed from slot " + std::to_string(slots_[i]) +
                               " of the swap file: check the disk",
                           EIO);
      ++i;
    });
  }

  const IoCompletion::Kind kind_;
  const PageSet pages_;
  SwapFile& file_;
  AlignedBytes bytes_;
  Status status_;
};

Result<std::unique_ptr<MemoryIoLinker>> MemoryIoLinker::create(const Config& config) {
  auto file = SwapFile::create(config.directory);
  if (!file) return file.error();
  auto worker = IoWorker::start(config.max_under_way);
  if (!worker) return worker.error();
  return std::unique_ptr<MemoryIoLinker>(new MemoryIoLinker(
      std::move(file).value(), config.max_bytes / kPageSize, std::move(worker).value()));
}

MemoryIoLinker::~MemoryIoLinker() = default;

void MemoryIoLinker::submit(std::unique_ptr<Job> job) {
  // Jobs run one after another, so a slot that is released and taken again is read by those who
  // were promised its old content before it is overwritten.
  worker_->submit(std::move(job));
}

Status MemoryIoLinker::first_touch(PageSet pages) {
  if (held(pages).mask != pages.mask || pages.empty())
    return make_error(ErrorCode::kNotFound,
                      "container " + std::to_string(pages.container.value()) + " stripe " +
                          std::to_string(pages.stripe) + ": not all pages asked for are in swap",
                      ENOENT);
  auto job = std::make_unique<Job>(IoCompletion::Kind::kTouched, pages, file_);
  for_each_page(pages, [&](PageId page) {
    const Kept* kept = kept_.find(key_of(page));
    job->slots_.push_back(kept->slot);
    job->sums_.push_back(kept->checksum);
  });
  submit(std::move(job));
  return {};
}

Status MemoryIoLinker::flush_page(PageSet pages, const std::byte* bytes) {
  if (pages.empty())
    return make_error(ErrorCode::kInvalidArgument, "no page was given to swap out", EINVAL);
  if (worker_->full())
    return make_error(ErrorCode::kUnavailable, "too many swap operations are under way", EAGAIN);
  AlignedBytes copy = aligned_pages(pages.size());
  if (!copy)
    return make_error(ErrorCode::kNoSpace, "no memory for pages to be written to swap", ENOMEM);
  auto job = std::make_unique<Job>(IoCompletion::Kind::kFlushed, pages, file_, std::move(copy));
  if (!slots_.allocate(pages.size(), job->slots_))
    return make_error(ErrorCode::kNoSpace,
                      "swap is full: " + std::to_string(slots_.used()) + " of " +
                          std::to_string(slots_.max_slots()) +
                          " pages are in use (swap_bytes sets the limit)",
                      ENOSPC);
  std::memcpy(job->bytes(), bytes, pages.size() * kPageSize);
  flushing_.emplace(job.get(), 0);
  submit(std::move(job));
  return {};
}

void MemoryIoLinker::forget(PageKey key) {
  const Kept* kept = kept_.find(key);
  if (kept == nullptr) return;
  slots_.release(kept->slot);
  kept_.erase(key);
}

void MemoryIoLinker::free_page(PageSet pages) {
  for_each_page(pages, [&](PageId page) { forget(key_of(page)); });
  for (auto& [job, freed] : flushing_)
    if (job->pages().container == pages.container && job->pages().stripe == pages.stripe)
      freed |= pages.mask;
}

void MemoryIoLinker::free_container(ContainerId id) {
  for (const PageKey key : kept_.keys_of(id)) forget(key);
  for (auto& [job, freed] : flushing_)
    if (job->pages().container == id) freed = ~std::uint64_t{0};
}

PageSet MemoryIoLinker::held(PageSet pages) const {
  PageSet found = pages.with(0);
  for_each_page(pages, [&](PageId page) {
    if (kept_.find(key_of(page)) != nullptr) found.mask |= PageSet::of(page).mask;
  });
  return found;
}

void MemoryIoLinker::end_flush(const Job& job) {
  const auto entry = flushing_.extract(&job);
  const std::uint64_t dropped = job.status().ok() ? entry.mapped() : job.pages().mask;
  std::size_t i = 0;
  for_each_page(job.pages(), [&](PageId page) {
    if ((dropped & PageSet::of(page).mask) != 0) {
      slots_.release(job.slots_[i]);
    } else {
      forget(key_of(page));
      kept_[key_of(page)] = {job.slots_[i], job.sums_[i]};
    }
    ++i;
  });
}

void MemoryIoLinker::poll(std::vector<IoCompletion>& out) {
  delivered_.clear();
  worker_->collect(delivered_);
  for (const std::unique_ptr<IoJob>& ended : delivered_) {
    const Job& job = static_cast<const Job&>(*ended);
    if (job.kind() == IoCompletion::Kind::kFlushed) end_flush(job);
    const bool bytes = job.kind() == IoCompletion::Kind::kTouched && job.status().ok();
    out.push_back({job.kind(), job.pages(), job.status(), bytes ? job.bytes() : nullptr});
  }
}

}  // namespace gob
