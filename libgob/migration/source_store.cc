// The source's end of the containers: out of the stopped processes.
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "libgob/base/unique_fd.h"
#include "libgob/linker/process_memory.h"
#include "libgob/migration/hurry.h"
#include "libgob/migration/page_store.h"
#include "libgob/migration/proc.h"
#include "libgob/migration/shared_memory.h"
#include "libgob/migration/talk.h"

namespace gob::migration {
namespace {
constexpr std::uint64_t kStoreBytes = kStorePages * kPageSize;
constexpr std::uint64_t kPiece = PageMover::kLanePages / kFillPages;  // runs, copied at once
// So many runs lie ready for the stream: more would only take frames.
constexpr std::uint64_t kLead = kStorePages / kFillPages;
constexpr std::chrono::milliseconds kPatience{200};  // with a stream that asks for nothing
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
  auto mover = PageMover::open(socket, 1);
  if (!mover) return mover.error();
  std::unique_ptr<SourceStore> store(new SourceStore(gob, std::move(*mover), session, priority));
  if (Status grown = store->grow(pages / kStorePages + 1); !grown) return grown.error();
  if (Status served = store->mover_->serve(live_name(session)); !served) return served.error();
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
      const auto number = mover_->find(name, PageMover::Use::kMove);
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
  for (const Piece& piece : pieces_) {
    Memory::Piece& place = *store.add_pieces();
    place.set_page(live_page(piece));
    place.set_pages(piece.run.pages);
  }
  filled_runs_.assign(runs_of(pages_), false);
  left_ = filled_runs_.size();
  if (sizeof(FillState) + filled_runs_.size() > kStateBytes)
    return make_error(ErrorCode::kNoSpace, "the process has more than 16 TiB of memory");
  return grow((pages_ + kStorePages - 1) / kStorePages);
}

// Where it is in the container of the processes' memory.
std::uint64_t SourceStore::live_page(const Piece& piece) {
  const auto known = std::ranges::find(live_, piece.pid);
  const auto process = static_cast<std::uint64_t>(known - live_.begin());
  const std::uint64_t page = piece.run.start / kPageSize;
  if (process == ProcessMemory::kMostProcesses || page >= ProcessMemory::kProcessPages)
    return ~std::uint64_t{0};
  if (known == live_.end()) live_.push_back(piece.pid);
  return process * ProcessMemory::kProcessPages + page;
}

// Not before they stand still: until then an exec may give them other memory.
Status SourceStore::serve_live() {
  std::vector<UniqueFd> files;
  std::vector<int> fds;
  for (const pid_t pid : live_) {
    for (const char* const what : {"mem", "stat"}) {
      files.emplace_back(::open(proc(pid, what).c_str(), O_RDONLY | O_CLOEXEC));
      if (!files.back())
        return system_error("opening the memory of the stopped process " + std::to_string(pid));
      fds.push_back(files.back().get());
    }
  }
  return fds.empty() ? Status() : mover_->serve(live_name(session_), fds);
}

void SourceStore::end_live() {
  try {
    gob_.remove(live_name(session_));
  } catch (const std::system_error&) {
    return;  // it goes with the session; who reads it until then gets an error
  }
}

Status SourceStore::copy_runs(Runs runs) {
  const std::uint64_t first = runs.first * kFillPages;
  const std::uint64_t end = std::min(pages_, first + runs.count * kFillPages);
  std::uint64_t page = first;
  auto piece = std::upper_bound(pieces_.begin(), pieces_.end(), page,
                                [](std::uint64_t at, const Piece& p) { return at < p.first; }) -
               1;
  for (; page < end; ++piece) {
    const std::uint64_t pages = std::min(end, piece->first + piece->run.pages) - page;
    if (!copy_out(piece->pid, piece->run.start + (page - piece->first) * kPageSize,
                  mover_->lane(0) + (page - first) * kPageSize, pages * kPageSize))
      return system_error("copying memory of the stopped process " + std::to_string(piece->pid));
    page += pages;
  }
  const Status put = mover_->put(stores_[first / kStorePages], first % kStorePages, end - first, 0);
  if (put) return {};
  return make_error(put.error().code,
                    "putting memory of the stopped process into its container (is there room? see "
                    "gobd's --budget and --swap): " +
                        put.error().message(),
                    put.error().errno_value);
}

// The first run from `from` on that is not filled, and those behind it, `most` in one container.
SourceStore::Runs SourceStore::next_runs(std::uint64_t from, std::uint64_t most) const {
  constexpr std::uint64_t kOfAContainer = kStorePages / kFillPages;
  Runs next{from, 0};
  while (filled_runs_[next.first]) next.first = (next.first + 1) % filled_runs_.size();
  for (std::uint64_t run = next.first;
       run < filled_runs_.size() && next.count < most && !filled_runs_[run] &&
       run / kOfAContainer == next.first / kOfAContainer;
       ++run)
    ++next.count;
  return next;
}

Status SourceStore::fill_runs(Runs runs) {
  if (Status copied = copy_runs(runs); !copied) return copied;
  const std::array<std::uint8_t, kPiece> filled = [] {
    std::array<std::uint8_t, kPiece> all;
    all.fill(1);
    return all;
  }();
  if (Status said = store(&state().filled[runs.first], filled.data(), runs.count); !said)
    return said;
  std::fill_n(filled_runs_.begin() + static_cast<std::ptrdiff_t>(runs.first), runs.count, true);
  left_ -= runs.count;
  return {};
}

// A run, + 1, that the target has wished for since it was last asked; 0: none.
Result<std::uint64_t> SourceStore::heard() {
  const auto said = load(&state().awaited);
  if (!said) return said;
  if (std::exchange(awaited_, *said) == *said) return 0;
  const std::uint64_t run = *said % (std::uint64_t{1} << kWishBits);
  return run <= filled_runs_.size() ? run : 0;
}

// False: nobody wished for anything in time, or the pace has changed.
Result<bool> SourceStore::await_wish(Pace pace) {
  const Held lock(wake_);
  while (pace_ == pace) {
    const auto awaited = load(&state().awaited);
    if (!awaited) return awaited.error();
    if (*awaited != awaited_) return true;
    if (pace == Pace::kAsked)
      static_cast<void>(wait_for_news(wished_));
    else if (!wait_for_news(wished_, kPatience))
      return false;
  }
  return false;
}

void SourceStore::tell() {
  const Held lock(wake_);
  filled_.broadcast();
}

// Wishes of the stream are heard between two runs.
Status SourceStore::fill_all() {
  std::uint64_t next = 0;
  const std::uint64_t early = runs_of(early_);
  std::uint64_t ahead = early;  // runs from `next` on that are filled at any pace,
  bool awaited = false;         // and the target is told
  std::uint64_t told_at = 0;    // when so many of them are left
  bool serves = false;
  note_early();
  while (left_ != 0) {
    const Pace pace = pace_;
    if (pace == Pace::kStopped)
      return make_error(ErrorCode::kUnavailable, "the migration was given up");
    if (pace != Pace::kAsked && !std::exchange(serves, true)) work_at(behind(priority_));
    if (ahead == 0 && pace != Pace::kAll) {
      const auto woken = await_wish(pace);
      if (!woken) return woken.error();
      if (pace_ != pace) continue;
      if (!*woken) ahead = kLead;
    }
    const auto wished = heard();
    if (!wished) return wished.error();
    if (*wished != 0) {
      next = *wished - 1;
      ahead = pace != Pace::kAsked ? kLead : next < early ? early - next : 1;
      awaited = true;
      told_at = ahead - std::min(ahead, kPiece);
    }
    if (ahead == 0 && pace != Pace::kAll) continue;
    const Runs runs = next_runs(next, pace == Pace::kAsked ? std::min(ahead, kPiece) : kPiece);
    if (Status done = fill_runs(runs); !done) return done;
    next = (runs.first + runs.count) % filled_runs_.size();
    ahead -= std::min(ahead, runs.count);
    note_early();
    if (awaited && ahead <= told_at) {
      awaited = false;
      tell();
    }
  }
  return store(&state().complete, std::uint32_t{1});
}

void SourceStore::note_early() {
  const auto early = filled_runs_.begin() + static_cast<std::ptrdiff_t>(runs_of(early_));
  if (early_state_ != Early::kOut || std::find(filled_runs_.begin(), early, false) != early) return;
  early_state_ = Early::kIn;
  early_state_.notify_all();
}

bool SourceStore::await_early() const {
  early_state_.wait(Early::kOut);
  return early_state_ == Early::kIn;
}

Status SourceStore::fill() {
  Status status;
  try {
    status = serve_live();
    if (status) status = fill_all();
  } catch (const std::system_error& error) {
    status = error_of(error, "telling the target that memory can be had");
  }
  try {
    if (!status) {
      early_state_ = Early::kNever;
      early_state_.notify_all();
      static_cast<void>(store(&state().failed, std::uint32_t{1}));
    }
    tell();
  } catch (const std::system_error& error) {
    if (status) status = error_of(error, "telling the target that memory can be had");
  }
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
