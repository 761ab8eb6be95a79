#include "libgob/linker/file_io_linker.h"

#include <sys/epoll.h>

#include <bit>
#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "libgob/base/page_table.h"

namespace gob {
namespace {

// Neighbours of up to a MiB go to one thread, which may read them in one call.
constexpr std::uint64_t kStripesOfALane = 4;
constexpr std::size_t kMostJoined = 16;  // stripes

// Pages of the set lie side by side.
bool is_run(PageSet pages) {
  const std::uint64_t shifted = pages.mask >> std::countr_zero(pages.mask);
  return (shifted & (shifted + 1)) == 0;
}

PageIndex first_of(PageSet pages) {
  return PageIndex{pages.stripe * kStripePages +
                   static_cast<unsigned>(std::countr_zero(pages.mask))};
}

}  // namespace

class FileIoLinker::Job final : public IoJob {
 public:
  Job(IoCompletion::Kind kind, PageSet pages, std::shared_ptr<const Backing> file)
      : kind_(kind), pages_(pages), file_(std::move(file)) {}

  void run() override {
    if (kind_ == IoCompletion::Kind::kTouched && !make_room()) return;
    std::byte* at = bytes_.get();
    for_each_run(pages_, [&](PageIndex first, unsigned count) {
      if (!status_) return;
      iovec part{at, count * kPageSize};
      status_ = kind_ == IoCompletion::Kind::kTouched ? file_->read(first, count, &part, 1)
                                                      : file_->write(first, count, at);
      at += count * kPageSize;
    });
  }

  std::size_t run_with(std::span<const std::unique_ptr<IoJob>> behind) override {
    std::size_t more = 0;
    unsigned pages = pages_.size();
    while (more < behind.size() && more + 1 < kMostJoined) {
      const Job& before = more == 0 ? *this : job_at(behind, more - 1);
      if (!before.adjoins(job_at(behind, more))) break;
      pages += job_at(behind, more).pages_.size();
      ++more;
    }
    if (more == 0) {
      run();
      return 0;
    }
    std::array<iovec, kMostJoined> parts{};
    bool room = make_room();
    parts[0] = {bytes_.get(), pages_.size() * kPageSize};
    for (std::size_t i = 0; i < more; ++i) {
      Job& next = job_at(behind, i);
      room = next.make_room() && room;
      parts[i + 1] = {next.bytes_.get(), next.pages_.size() * kPageSize};
    }
    if (room && file_->read(first_of(pages_), pages, parts.data(), static_cast<int>(more) + 1))
      return more;
    // One of them cannot be read: each for itself, so that the others are.
    run();
    for (std::size_t i = 0; i < more; ++i) job_at(behind, i).run();
    return more;
  }

  // Shard's thread, before it is submitted and after it ended.
  [[nodiscard]] bool take(const std::byte* bytes) {
    if (!make_room()) return false;
    std::memcpy(bytes_.get(), bytes, pages_.size() * kPageSize);
    return true;
  }
  [[nodiscard]] IoCompletion completion() const {
    const bool has_bytes = kind_ == IoCompletion::Kind::kTouched && status_.ok();
    return {kind_, pages_, status_, has_bytes ? bytes_.get() : nullptr};
  }

 private:
  static Job& job_at(std::span<const std::unique_ptr<IoJob>> jobs, std::size_t i) {
    return static_cast<Job&>(*jobs[i]);
  }
  // Both read, and `next` goes on where this one ends.
  [[nodiscard]] bool adjoins(const Job& next) const {
    return kind_ == IoCompletion::Kind::kTouched && next.kind_ == kind_ && file_ == next.file_ &&
           is_run(pages_) && is_run(next.pages_) &&
           first_of(next.pages_).value() == first_of(pages_).value() + pages_.size();
  }
  [[nodiscard]] bool make_room() {
    if (bytes_ != nullptr) return true;
    bytes_.reset(new (std::nothrow) std::byte[pages_.size() * kPageSize]);
    if (bytes_ == nullptr)
      status_ = make_error(ErrorCode::kNoSpace,
                           "no memory for pages on their way to or from a file", ENOMEM);
    return bytes_ != nullptr;
  }

  const IoCompletion::Kind kind_;
  const PageSet pages_;
  const std::shared_ptr<const Backing> file_;
  std::unique_ptr<std::byte[]> bytes_;
  Status status_;
};

Result<std::unique_ptr<FileIoLinker>> FileIoLinker::create(std::size_t max_under_way) {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return system_error("cannot create the epoll instance of a file I/O linker");
  std::unique_ptr<FileIoLinker> linker(new FileIoLinker(std::move(epoll)));
  for (std::unique_ptr<IoWorker>& lane : linker->lanes_) {
    Result<std::unique_ptr<IoWorker>> worker = IoWorker::start(max_under_way);
    if (!worker) return worker.error();
    lane = std::move(*worker);
    epoll_event event{};
    event.events = EPOLLIN;
    if (::epoll_ctl(linker->epoll_.get(), EPOLL_CTL_ADD, lane->fd(), &event) != 0)
      return system_error("cannot watch a disk thread");
  }
  return linker;
}

FileIoLinker::~FileIoLinker() = default;

void FileIoLinker::bind(ContainerId id, std::shared_ptr<const Backing> file) {
  files_[id] = std::move(file);
}

IoWorker& FileIoLinker::lane_of(PageSet pages, const Backing& file) {
  if (file.is_memory()) return *lanes_[kLanes];
  return *lanes_[mix64(std::uint64_t{pages.container.value()} << 40 |
                       pages.stripe / kStripesOfALane) %
                 kLanes];
}

Status FileIoLinker::submit(PageSet pages, IoCompletion::Kind kind, const std::byte* bytes) {
  const auto file = files_.find(pages.container);
  if (file == files_.end())
    return make_error(
        ErrorCode::kNotFound,
        "container " + std::to_string(pages.container.value()) + " has no open file on this node",
        ENOENT);
  if (pages.empty())
    return make_error(ErrorCode::kInvalidArgument, "no page of a file was given", EINVAL);
  IoWorker& lane = lane_of(pages, *file->second);
  if (bytes != nullptr && lane.full())
    return make_error(ErrorCode::kUnavailable, "too many operations on files are under way",
                      EAGAIN);
  auto job = std::make_unique<Job>(kind, pages, file->second);
  if (bytes != nullptr && !job->take(bytes))
    return make_error(ErrorCode::kNoSpace, "no memory for pages to be written to a file", ENOMEM);
  lane.submit(std::move(job));
  return {};
}

Status FileIoLinker::first_touch(PageSet pages) {
  return submit(pages, IoCompletion::Kind::kTouched, nullptr);
}

Status FileIoLinker::flush_page(PageSet pages, const std::byte* bytes) {
  return submit(pages, IoCompletion::Kind::kFlushed, bytes);
}

PageSet FileIoLinker::held(PageSet pages) const {
  return files_.contains(pages.container) ? pages : pages.with(0);
}

void FileIoLinker::poll(std::vector<IoCompletion>& out) {
  delivered_.clear();
  for (const std::unique_ptr<IoWorker>& lane : lanes_) lane->collect(delivered_);
  for (const std::unique_ptr<IoJob>& ended : delivered_)
    out.push_back(static_cast<const Job&>(*ended).completion());
}

}  // namespace gob
