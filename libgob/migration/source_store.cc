// The source's end of the containers: out of the stopped processes.
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>

#include "libgob/base/unique_fd.h"
#include "libgob/migration/page_store.h"
#include "libgob/migration/shared_memory.h"
#include "libgob/migration/talk.h"

namespace gob::migration {
namespace {
constexpr std::uint64_t kStoreBytes = kStorePages * kPageSize;
std::uint64_t runs_of(std::uint64_t pages) { return (pages + kFillPages - 1) / kFillPages; }

bool copy_out(pid_t pid, std::uint64_t from, std::byte* to, std::uint64_t bytes) {
  const iovec local{to, bytes};
  const iovec remote{reinterpret_cast<void*>(from), bytes};
  if (::process_vm_readv(pid, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(bytes)) return true;
  // Memory that the program itself may not read now, but can make readable again.
  const UniqueFd memory(
      ::open(("/proc/" + std::to_string(pid) + "/mem").c_str(), O_RDONLY | O_CLOEXEC));
  return memory && ::pread(memory.get(), to, bytes, static_cast<off_t>(from)) ==
                       static_cast<ssize_t>(bytes);
}

}  // namespace

Result<SourceStore> SourceStore::create(const gobelins::Connection& gob, const std::string& session,
                                        std::uint64_t pages) {
  SourceStore store(gob, session);
  if (Status grown = store.grow(pages / kStorePages + 1); !grown) return grown.error();
  try {
    store.gob_.create(state_name(session), kStateBytes);
    store.state_ = store.gob_.open(state_name(session)).map();
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
      stores_.push_back(gob_.open(name).map());
    }
    return {};
  } catch (const std::system_error& error) {
    return error_of(error, "making a container for the process's memory");
  }
}

Status SourceStore::assign(const std::vector<LazyTask>& tasks, const std::vector<pid_t>& pids,
                           Memory& memory) {
  const std::uint64_t first = next_store(memory);
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    Memory::Task& task = *memory.add_tasks();
    task.set_pid(tasks[i].pid);
    for (const LazyRun& run : tasks[i].runs) {
      Run& entry = *task.add_runs();
      entry.set_start(run.start);
      entry.set_page(first + pages_);
      entry.set_pages(run.pages);
      pieces_.push_back({pages_, run, pids[i]});
      pages_ += run.pages;
    }
  }
  Memory::Store& store = *memory.add_stores();
  store.set_session(session_);
  store.set_first(first);
  store.set_pages(pages_);
  if (sizeof(FillState) + runs_of(pages_) > kStateBytes)
    return make_error(ErrorCode::kNoSpace, "the process has more than 16 TiB of memory");
  return grow((pages_ + kStorePages - 1) / kStorePages);
}

// The kernel's write into the mapping makes the pages exist, here: a first touch.
Status SourceStore::fill_run(std::uint64_t run) {
  std::uint64_t page = run * kFillPages;
  const std::uint64_t end = std::min(pages_, page + kFillPages);
  auto piece = std::upper_bound(pieces_.begin(), pieces_.end(), page,
                                [](std::uint64_t at, const Piece& p) { return at < p.first; }) -
               1;
  for (; page < end; ++piece) {
    const std::uint64_t pages = std::min(end, piece->first + piece->run.pages) - page;
    std::byte* to = static_cast<std::byte*>(stores_[page / kStorePages].data()) +
                    page % kStorePages * kPageSize;
    if (!copy_out(piece->pid, piece->run.start + (page - piece->first) * kPageSize, to,
                  pages * kPageSize))
      return system_error("copying memory of the stopped process " + std::to_string(piece->pid) +
                          " into its container (is there room? see gobd's --budget and --swap)");
    page += pages;
  }
  return {};
}

// A wish that comes between the look at it and its removal is said again (TargetStore).
Status SourceStore::fill_all(const std::function<Status()>& go_on) {
  FillState& all = state();
  const std::uint64_t runs = runs_of(pages_);
  std::vector<bool> filled(runs);
  for (std::uint64_t next = 0; next < runs;) {
    if (Status status = go_on(); !status) return status;
    const auto wanted = load(&all.wanted);
    if (!wanted) return wanted.error();
    const bool asked = *wanted != 0 && *wanted <= runs;
    if (asked)
      if (Status heard = store(&all.wanted, std::uint64_t{0}); !heard) return heard;
    const std::uint64_t run = asked ? *wanted - 1 : next;
    if (!filled[run]) {
      if (Status done = fill_run(run); !done) return done;
      if (Status said = store(&all.filled[run], std::uint8_t{1}); !said) return said;
      filled[run] = true;
    }
    if (asked) {
      const Held lock(wake_);
      filled_.broadcast();
    }
    while (next < runs && filled[next]) ++next;
  }
  return store(&all.complete, std::uint32_t{1});
}

Status SourceStore::fill(const std::function<Status()>& go_on) {
  try {
    Status status = fill_all(go_on);
    if (!status) static_cast<void>(store(&state().failed, std::uint32_t{1}));
    const Held lock(wake_);
    filled_.broadcast();
    return status;
  } catch (const std::system_error& error) {
    return error_of(error, "telling the target that memory can be had");
  }
}

}  // namespace gob::migration
