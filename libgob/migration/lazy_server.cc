#include "libgob/migration/lazy_server.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "libgob/migration/hurry.h"

namespace gob::migration {
namespace {

constexpr std::uint64_t kStreamPages = PageMover::kLanePages;  // brought in one piece,
constexpr std::uint64_t kCopyPages = 16;  // and copied: short enough not to delay faults
constexpr std::uint64_t kLookAfter = kStorePages / 4;  // pages, for containers used up

}  // namespace

Result<std::unique_ptr<LazyServer>> LazyServer::create(TargetStores& store,
                                                       std::function<void(int)> on_uffd,
                                                       int priority) {
  UniqueFd changed(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!changed || !wake) return system_error("creating an eventfd");
  std::unique_ptr<LazyServer> server(
      new LazyServer(store, std::move(on_uffd), priority, std::move(changed), std::move(wake)));
  for (unsigned lane = kFaultLane; lane < kLanes; ++lane)
    server->faults_.emplace_back([s = server.get(), lane] { s->serve_faults(lane); });
  server->streamer_ = std::thread([s = server.get()] { s->stream(); });
  return server;
}

LazyServer::~LazyServer() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  wake();
  for (std::thread& each : faults_) each.join();
  streamer_.join();
}

// Full means: said already.
void LazyServer::say_changed() const { static_cast<void>(::eventfd_write(changed_.get(), 1)); }
void LazyServer::wake() const { static_cast<void>(::eventfd_write(wake_.get(), 1)); }

void LazyServer::clear_fd() {
  std::uint64_t count = 0;
  if (::read(changed_.get(), &count, sizeof count) < 0) return;
}

void LazyServer::add(UniqueFd uffd, LazyRanges ranges, pid_t pid,
                     std::vector<LazyRanges::Run> early) {
  ::fcntl(uffd.get(), F_SETFL, O_NONBLOCK);
  {
    const std::lock_guard lock(mutex_);
    Task& task = tasks_.emplace_back();
    task.uffd = std::move(uffd);
    task.ranges = std::move(ranges);
    task.pid = pid;
    task.early = std::move(early);
    std::ranges::reverse(task.early);  // it is taken from the end
  }
  work_.notify_all();
  wake();
}

void LazyServer::runs(bool stream) {
  {
    const std::lock_guard lock(mutex_);
    runs_ = true;
    streaming_ = stream;
  }
  work_.notify_all();
  wake();
}

bool LazyServer::finished() {
  const std::lock_guard lock(mutex_);
  return std::ranges::all_of(tasks_, [](const Task& t) { return t.ended || t.ranges.empty(); });
}

std::optional<Error> LazyServer::failure() {
  const std::lock_guard lock(mutex_);
  return failure_;
}

LazyServer::Counts LazyServer::counts() {
  const std::lock_guard lock(mutex_);
  return counts_;
}

void LazyServer::fail(const Error& error) {
  {
    const std::lock_guard lock(mutex_);
    if (!failure_) failure_ = error;
  }
  say_changed();
}

// With mutex_ held; `from` was on this node just now, so it hardly ever waits.
LazyServer::Copied LazyServer::copy(Task& task, std::uint64_t address, const std::byte* from,
                                    std::uint64_t pages) {
  std::uint64_t left = pages * kPageSize;
  std::uint64_t at = address;
  auto source = reinterpret_cast<std::uint64_t>(from);
  while (left != 0) {
    uffdio_copy request{};
    request.dst = at;
    request.src = source;
    request.len = left;
    std::uint64_t step = left;
    if (::ioctl(task.uffd.get(), UFFDIO_COPY, &request) != 0) {
      const int error = errno;
      if (request.copy > 0) {
        step = static_cast<std::uint64_t>(request.copy);
      } else if (error == EEXIST) {  // the other thread was faster
        step = kPageSize;
        uffdio_range range{at, step};
        ::ioctl(task.uffd.get(), UFFDIO_WAKE, &range);
      } else if (error == ESRCH) {
        task.ended = true;
        return Copied::kEnded;
      } else {  // EAGAIN, ENOENT: an event that we have not read yet will tell why
        return Copied::kLater;
      }
    }
    if (holding_)
      if (const auto run = task.ranges.find(at, step / kPageSize))
        task.recent.add(at, run->page, run->pages);
    task.ranges.drop(at, at + step);
    arrived_ += step / kPageSize;
    at += step;
    source += step;
    left -= step;
  }
  return Copied::kDone;
}

// With mutex_ held.
bool LazyServer::has_work() const {
  return streaming_ || may_have_used_up() ||
         std::ranges::any_of(tasks_, [](const Task& t) { return !t.ended && !t.early.empty(); });
}

// With mutex_ held. Not while the migrant may move on: what has come since hold() may still be
// asked for.
bool LazyServer::may_have_used_up() const { return runs_ && !holding_ && arrived_ >= kLookAfter; }

// With mutex_ held. The containers of which somebody may want a page.
std::set<std::uint64_t> LazyServer::needed() const {
  std::set<std::uint64_t> numbers;
  for (const std::uint64_t page : asked_) numbers.insert(page / kStorePages);
  for (const Task& task : tasks_)
    if (!task.ended)
      for (const LazyRanges::Run& run : task.ranges.runs())
        for (std::uint64_t n = run.page / kStorePages;
             n <= (run.page + run.pages - 1) / kStorePages; ++n)
          numbers.insert(n);
  return numbers;
}

// With mutex_ held. What the stream brings next.
std::optional<LazyRanges::Run> LazyServer::next_of(Task& task) const {
  while (!task.early.empty()) {
    LazyRanges::Run& first = task.early.back();
    const auto run = task.ranges.find(first.address, std::min(first.pages, kStreamPages));
    if (run && run->page == first.page) return run;
    // It is there, or the program has done something else with it.
    first = {first.address + kPageSize, first.page + 1, first.pages - 1};
    if (first.pages == 0) task.early.pop_back();
  }
  if (!streaming_) return std::nullopt;
  return task.ranges.next(task.cursor, kStreamPages);
}

// One run of pages of one task. False: nothing was to be done, or not now.
bool LazyServer::stream_some(Task& task) {
  std::optional<LazyRanges::Run> run;
  std::uint64_t cursor = 0;
  {
    const std::lock_guard lock(mutex_);
    if (task.ended) return false;
    run = next_of(task);
    if (!run) return false;
    cursor = task.cursor;
    run->pages = std::min(run->pages, kStorePages - run->page % kStorePages);
  }
  const auto bytes = store_.bring(run->page, run->pages, Asker::kStream, kStreamLane);
  if (!bytes) {
    fail(bytes.error());
    return false;
  }
  for (std::uint64_t done = 0; done < run->pages;) {
    for (unsigned first = faults_first_; first != 0; first = faults_first_)
      faults_first_.wait(first);
    const std::lock_guard lock(mutex_);
    const std::uint64_t at = run->address + done * kPageSize;
    const auto still = task.ranges.find(at, std::min(kCopyPages, run->pages - done));
    if (!still || still->page != run->page + done) return true;  // changed meanwhile: look again
    if (copy(task, at, *bytes + done * kPageSize, still->pages) != Copied::kDone) return false;
    done += still->pages;
    counts_.streamed += still->pages;
    // Unless a fault has sent it elsewhere.
    if (task.early.empty() && task.cursor == cursor)
      task.cursor = cursor = at + still->pages * kPageSize;
  }
  return true;
}

void LazyServer::stream() {
  bool hurried = true;  // as whoever made this thread, until the process runs
  while (true) {
    std::vector<Task*> tasks;
    std::vector<std::uint64_t> used_up;
    std::vector<std::uint64_t> unknown;
    {
      std::unique_lock lock(mutex_);
      work_.wait(lock, [this] { return has_work() || stopping_; });
      if (stopping_ || failure_) return;
      if (runs_ && std::exchange(hurried, false)) work_at(behind(priority_));
      if (may_have_used_up()) {
        arrived_ = 0;
        used_up = store_.use_up(needed(), unknown);
      }
      for (Task& task : tasks_)
        if (!task.ended) tasks.push_back(&task);
    }
    for (const std::uint64_t number : used_up)
      if (const Status removed = store_.remove(number); !removed)
        spdlog::warn("{}; it stays until the move is over", removed.error().message());
    if (std::ranges::count_if(unknown, [this](std::uint64_t each) { return store_.look(each); }) !=
        0) {
      const std::lock_guard lock(mutex_);
      arrived_ = kLookAfter;  // now it is known
    }
    bool moved = false;
    for (Task* task : tasks) moved = stream_some(*task) || moved;
    if (moved) continue;
    say_changed();
    // A change of the address space is under way, or nothing is left until a program forks.
    std::unique_lock lock(mutex_);
    work_.wait_for(lock, std::chrono::milliseconds(5), [this] { return stopping_; });
  }
}

}  // namespace gob::migration
