// The source's end of the containers: out of the stopped processes.
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <thread>

#include "libgob/base/unique_fd.h"
#include "libgob/migration/hurry.h"
#include "libgob/migration/page_store.h"
#include "libgob/migration/proc.h"
#include "libgob/migration/shared_memory.h"
#include "libgob/migration/talk.h"

namespace gob::migration {
namespace {
constexpr std::uint64_t kStoreBytes = kStorePages * kPageSize;
// Runs: copied in one piece; what the stream waited for, and what it wants next. It is told when
// the first piece is there.
constexpr std::uint64_t kPiece = PageMover::kLanePages / kFillPages;
constexpr std::uint64_t kAhead = 4 * kPiece;
std::uint64_t runs_of(std::uint64_t pages) { return (pages + kFillPages - 1) / kFillPages; }

bool copy_out(pid_t pid, std::uint64_t from, std::byte* to, std::uint64_t bytes) {
  const iovec local{to, bytes};
  const iovec remote{reinterpret_cast<void*>(from), bytes};
  if (::process_vm_readv(pid, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(bytes)) return true;
  // Memory that the program itself may not read now, but can make readable again.
  const UniqueFd memory(::open(proc(pid, "mem").c_str(), O_RDONLY | O_CLOEXEC));
  return memory &&
         ::pread(memory.get(), to, bytes, static_cast<off_t>(from)) == static_cast<ssize_t>(bytes);
}

}  // namespace

Result<std::unique_ptr<SourceStore>> SourceStore::create(const gobelins::Connection& gob,
                                                         const std::string& socket,
                                                         const std::string& session,
                                                         std::uint64_t pages, int priority) {
  auto mover = PageMover::open(socket, kLanes);
  if (!mover) return mover.error();
  std::unique_ptr<SourceStore> store(new SourceStore(gob, std::move(*mover), session, priority));
  if (Status grown = store->grow(pages / kStorePages + 1); !grown) return grown.error();
  try {
    store->gob_.create(state_name(session), kStateBytes);
    store->state_ = store->gob_.open(state_name(session)).map();
    // The page is here from now on: there may be no room when a failure has to be told.
    static_cast<void>(gob::migration::store(&store->state().complete, std::uint32_t{0}));
    return store;
  } catch (const std::system_error& error) {
    return error_of(error, "making the container that tells which pages can be had");
  }
}

Status SourceStore::grow(std::size_t stores) {
  try {
    while (stores_.size() < stores) {
      const std::string name = store_name(session_, stores_.size());
      gob_.create(name, kStoreBytes);
      const auto number = mover_->find(name);
      if (!number) return number.error();
      stores_.push_back(*number);
    }
    return {};
  } catch (const std::system_error& error) {
    return error_of(error, "making a container for the process's memory");
  }
}

Status SourceStore::assign(const std::vector<LazyTask>& tasks, const std::vector<pid_t>& pids,
                           Memory& memory) {
  const std::uint64_t first = next_store(memory);
  std::vector<std::pair<std::size_t, LazyRun>> all;  // with the task's index
  for (std::size_t i = 0; i < tasks.size(); ++i)
    for (const LazyRun& run : tasks[i].runs) all.emplace_back(i, run);
  // The shortest runs first, then all others as they are.
  auto others = all.begin();
  std::ranges::stable_sort(all, {}, [](const auto& each) { return each.second.pages; });
  for (; others != all.end() && early_ + others->second.pages <= kEarlyPages; ++others)
    early_ += others->second.pages;
  std::sort(others, all.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first, a.second.start) < std::pair(b.first, b.second.start);
  });
  std::vector<Memory::Task*> entries;
  for (const LazyTask& task : tasks) {
    entries.push_back(memory.add_tasks());
    entries.back()->set_pid(task.pid);
  }
  for (const auto& [task, run] : all) {
    Run& entry = *entries[task]->add_runs();
    entry.set_start(run.start);
    entry.set_page(first + pages_);
    entry.set_pages(run.pages);
    pieces_.push_back({pages_, run, pids[task]});
    pages_ += run.pages;
  }
  Memory::Store& store = *memory.add_stores();
  store.set_session(session_);
  store.set_first(first);
  store.set_pages(pages_);
  store.set_early(early_);
  runs_.assign(runs_of(pages_), Filled::kNo);
  left_ = runs_.size();
  if (sizeof(FillState) + runs_.size() > kStateBytes)
    return make_error(ErrorCode::kNoSpace, "the process has more than 16 TiB of memory");
  return grow((pages_ + kStorePages - 1) / kStorePages);
}

Status SourceStore::copy_runs(Runs runs, Lane lane) {
  const std::uint64_t first = runs.first * kFillPages;
  const std::uint64_t end = std::min(pages_, first + runs.count * kFillPages);
  std::uint64_t page = first;
  auto piece = std::upper_bound(pieces_.begin(), pieces_.end(), page,
                                [](std::uint64_t at, const Piece& p) { return at < p.first; }) -
               1;
  for (; page < end; ++piece) {
    const std::uint64_t pages = std::min(end, piece->first + piece->run.pages) - page;
    if (!copy_out(piece->pid, piece->run.start + (page - piece->first) * kPageSize,
                  mover_->lane(lane) + (page - first) * kPageSize, pages * kPageSize))
      return system_error("copying memory of the stopped process " + std::to_string(piece->pid));
    page += pages;
  }
  const Status put =
      mover_->put(stores_[first / kStorePages], first % kStorePages, end - first, lane);
  if (put) return {};
  return make_error(put.error().code,
                    "putting memory of the stopped process into its container (is there room? see "
                    "gobd's --budget and --swap): " +
                        put.error().message(),
                    put.error().errno_value);
}

// Whoever claims a run fills it. False: the other thread did.
bool SourceStore::claim(std::uint64_t run) {
  const std::lock_guard lock(mutex_);
  if (runs_[run] != Filled::kNo) return false;
  runs_[run] = Filled::kBegun;
  return true;
}

// The first run from `from` on that nobody has begun, and those behind it, `most` in one container.
// None: all are filled, or the thread for faults has failed.
std::optional<SourceStore::Runs> SourceStore::claim_next(std::uint64_t from, std::uint64_t most) {
  constexpr std::uint64_t kOfAContainer = kStorePages / kFillPages;
  std::unique_lock lock(mutex_);
  for (std::uint64_t i = 0; i < runs_.size(); ++i) {
    Runs claimed{(from + i) % runs_.size(), 0};
    for (std::uint64_t run = claimed.first;
         run < runs_.size() && claimed.count < most && runs_[run] == Filled::kNo &&
         run / kOfAContainer == claimed.first / kOfAContainer;
         ++run, ++claimed.count)
      runs_[run] = Filled::kBegun;
    if (claimed.count != 0) return claimed;
  }
  changed_.wait(lock, [this] { return left_ == 0 || !failure_; });
  return std::nullopt;
}

// Those that were claimed.
Status SourceStore::fill_runs(Runs runs, Lane lane) {
  if (Status copied = copy_runs(runs, lane); !copied) return copied;
  const std::array<std::uint8_t, kPiece> filled = [] {
    std::array<std::uint8_t, kPiece> all;
    all.fill(1);
    return all;
  }();
  if (Status said = store(&state().filled[runs.first], filled.data(), runs.count); !said)
    return said;
  const std::lock_guard lock(mutex_);
  std::fill_n(runs_.begin() + static_cast<std::ptrdiff_t>(runs.first), runs.count, Filled::kYes);
  left_ -= runs.count;
  changed_.notify_all();
  return {};
}

// A run, + 1, that the target has wished for since `before`; 0: none.
Result<std::uint64_t> SourceStore::heard(const std::uint64_t& wish, std::uint64_t& before) const {
  const auto said = load(&wish);
  if (!said) return said;
  if (std::exchange(before, *said) == *said) return 0;
  const std::uint64_t run = *said % (std::uint64_t{1} << kWishBits);
  return run <= runs_.size() ? run : 0;
}

Status SourceStore::await_wish() {
  const Held lock(wake_);
  while (pace_ == Pace::kAsked && !is_over()) {
    const auto awaited = load(&state().awaited);
    if (!awaited) return awaited.error();
    if (*awaited != awaited_) break;
    static_cast<void>(wait_for_news(wished_));
  }
  return {};
}

void SourceStore::tell() {
  const Held lock(wake_);
  filled_.broadcast();
}

// Wishes of the stream are heard between two runs.
Status SourceStore::fill_all() {
  FillState& all = state();
  std::uint64_t next = 0;
  const std::uint64_t early = runs_of(early_);
  std::uint64_t ahead = early;  // runs from `next` on that are filled at any pace,
  bool awaited = false;         // and the target is told
  std::uint64_t told_at = 0;    // when so many of them are left
  bool serves = false;
  while (!is_over()) {
    if (pace_ == Pace::kAll && !std::exchange(serves, true)) work_at(behind(priority_));
    if (ahead == 0 && pace_ == Pace::kAsked)
      if (Status woken = await_wish(); !woken) return woken;
    if (pace_ == Pace::kStopped)
      return make_error(ErrorCode::kUnavailable, "the migration was given up");
    const auto wished = heard(all.awaited, awaited_);
    if (!wished) return wished.error();
    if (*wished != 0) {
      next = *wished - 1;
      ahead = pace_ == Pace::kAll ? kAhead : next < early ? early - next : 1;
      awaited = true;
      told_at = ahead - std::min(ahead, kPiece);
    }
    if (ahead == 0 && pace_ == Pace::kAsked) continue;
    const auto runs =
        claim_next(next, pace_ == Pace::kAll ? kPiece : std::min(ahead, kPiece));
    if (!runs) continue;
    if (Status done = fill_runs(*runs, kBulk); !done) return done;
    next = (runs->first + runs->count) % runs_.size();
    ahead -= std::min(ahead, runs->count);
    if (awaited && ahead <= told_at) {
      awaited = false;
      tell();
    }
  }
  const std::lock_guard lock(mutex_);
  if (!failure_) return failure_;
  return store(&all.complete, std::uint32_t{1});
}

// The next run that a fault waits for; none when the filling has ended.
Result<std::optional<std::uint64_t>> SourceStore::await_fault(std::uint64_t& before) {
  const Held lock(wake_);
  while (true) {
    {
      const std::lock_guard still(mutex_);
      if (ended_) return std::optional<std::uint64_t>();
    }
    const auto wanted = heard(state().wanted, before);
    if (!wanted) return wanted.error();
    if (*wanted != 0) return std::optional(*wanted - 1);
    static_cast<void>(wait_for_news(wished_));
  }
}

Status SourceStore::answer_faults() {
  for (std::uint64_t before = 0;;) {
    const auto run = await_fault(before);
    if (!run || !*run) return run ? Status() : run.error();
    if (claim(**run)) {
      if (Status done = fill_runs({**run, 1}, kFaults); !done) return done;
    } else {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return runs_[**run] == Filled::kYes || ended_; });
      if (runs_[**run] != Filled::kYes) return {};
    }
    tell();
  }
}

// A thread of its own: what a fault waits for waits for nothing else, and the stream not for it.
void SourceStore::serve_faults() {
  work_at(priority_);
  try {
    const Status status = answer_faults();
    if (status) return;
    {
      const std::lock_guard lock(mutex_);
      failure_ = status;
      changed_.notify_all();
    }
    const Held lock(wake_);
    wished_.broadcast();  // the other thread may wait
  } catch (const std::system_error& error) {
    const std::lock_guard lock(mutex_);
    failure_ = error_of(error, "telling the target that memory can be had");
    changed_.notify_all();
  }
}

bool SourceStore::is_over() {
  const std::lock_guard lock(mutex_);
  return left_ == 0 || !failure_;
}

Status SourceStore::fill() {
  std::thread faults;
  Status status;
  try {
    faults = std::thread([this] { serve_faults(); });
    status = fill_all();
  } catch (const std::system_error& error) {
    status = error_of(error, "telling the target that memory can be had");
  }
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }
  try {
    if (!status) static_cast<void>(store(&state().failed, std::uint32_t{1}));
    const Held lock(wake_);
    filled_.broadcast();
    wished_.broadcast();
  } catch (const std::system_error& error) {
    if (status) status = error_of(error, "telling the target that memory can be had");
  }
  if (faults.joinable()) faults.join();
  return status;
}

void SourceStore::set_pace(Pace pace) {
  pace_ = pace;
  try {
    const Held lock(wake_);
    wished_.broadcast();
  } catch (const std::system_error&) {
    return;  // gobd is gone, and nobody sleeps
  }
}

}  // namespace gob::migration
