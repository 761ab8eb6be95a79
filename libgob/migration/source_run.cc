// The phases of a migration at its source.
#include "libgob/migration/source_run.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>

#include "libgob/migration/context_dump.h"
#include "libgob/migration/criu.h"
#include "libgob/migration/criu_images.h"
#include "libgob/migration/inspect.h"
#include "libgob/migration/lazy_ranges.h"
#include "libgob/migration/left_out.h"
#include "libgob/migration/migrant.h"
#include "libgob/migration/outside_terminal.h"
#include "libgob/migration/page_map.h"
#include "libgob/migration/session.h"
#include "libgob/migration/shared_memory.h"
#include "libgob/migration/sharers.h"
#include "libgob/migration/stand_still.h"
#include "libgob/migration/stream_ring.h"

namespace gob::migration {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kUnlocked{5};
constexpr std::chrono::seconds kRestore{150};
constexpr std::chrono::seconds kTakeOver{30};

// More than the images of most processes have, if their memory is not among them.
constexpr std::size_t kUsualImages = std::size_t{512} << 10;

// Reads `files` one after the other into the container at `place`, and puts `memory` behind them.
Status put_images(const Images& images, const std::vector<fs::path>& files,
                  const std::string& memory, const void* place) {
  char* at = static_cast<char*>(const_cast<void*>(place));
  for (std::size_t i = 0; i < files.size(); ++i) {
    const std::uint64_t size = images.files(static_cast<int>(i)).size_bytes();
    // read(2) makes an error of a page that cannot be had.
    const UniqueFd in(::open(files[i].c_str(), O_RDONLY | O_CLOEXEC));
    for (std::uint64_t done = 0; done < size;) {
      const ssize_t step = in ? ::read(in.get(), at + done, size - done) : -1;
      if (step <= 0) return system_error("reading " + files[i].string());
      done += static_cast<std::uint64_t>(step);
    }
    at += size;
  }
  return store(at, memory.data(), memory.size());
}

double milliseconds_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

}  // namespace

SourceRun::~SourceRun() {
  if (filler_.joinable()) {
    store_->set_pace(SourceStore::Pace::kStopped);
    filler_.join();
  }
  remove_images();
}

void SourceRun::remove_images() {
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

Result<Moved> SourceRun::migrate(const Progress& progress) {
  Status status = open();
  if (status && plan_.migrant) status = reach_resident();
  if (status && options_.lazy) {
    // Before the freeze, a little more than what is there now.
    auto store = SourceStore::create(*gob_, options_.socket, session_,
                                     plan_.private_bytes / kPageSize * 9 / 8,
                                     page_service_priority(options_.socket));
    if (store)
      store_ = std::move(*store);
    else
      status = store.error();
  }
  if (status) status = show_folders();
  if (status) status = freeze_and_move(progress);
  if (!status) {
    // The guard lets the process go on, and removes what is left.
    give_up(status.error().message());
    for (const std::string& name : {record_of(session_), streams_of(record_of(session_))})
      static_cast<void>(remove_session(options_.socket, name));
    if (status.error().code == ErrorCode::kLost) signal_tree(options_.pid, SIGKILL);
    return status.error();
  }
  status = take_over();
  if (status) {
    progress.running(moved_);
    status = finish();
  }
  if (!status) {
    signal_tree(options_.pid, SIGKILL);
    return make_error(
        ErrorCode::kLost,
        "the target had taken over, and the process is lost unless all its memory was there: " +
            status.error().message());
  }
  signal_tree(options_.pid, SIGKILL);
  remove_images();
  guard_->done();
  ::gob_unlock(gob_->get(), stay_lock(session_, true).c_str());  // else it ends with the connection
  if (hold_ != nullptr) hold_->release();
  if (options_.wait) await_arrival();
  return moved_;
}

// The target's node is out of reach, so that it cannot remove the containers, nor need the folders.
void SourceRun::abandon(const Error& error) {
  moved_.arrived.set_instead(error.message());
  std::vector<std::string> names{session_};
  names.insert(names.end(), memory_.inherited().begin(), memory_.inherited().end());
  for (const Cover& cover : moved_.covers)
    if (!cover.name().empty()) names.push_back(cover.name());
  for (const std::string& name : names) static_cast<void>(remove_session(options_.socket, name));
}

// The process runs over there: whatever fails here is only news of it.
void SourceRun::await_arrival() {
  const auto answer = expect(Message::kArrived, std::chrono::hours(24 * 365));
  if (answer)
    moved_.arrived = answer->arrived();
  else
    abandon(answer.error());
  moved_.arrival = milliseconds_since(running_since_);
}

Status SourceRun::freeze_and_move(const Progress& progress) {
  std::error_code error;
  fs::create_directory(folder_, error);
  if (error) return make_error(ErrorCode::kSystem, "making " + folder_ + ": " + error.message());
  fs::permissions(folder_, fs::perms::owner_all, error);
  if (resident_) {
    ResidentRequest request;
    *request.mutable_hold() = processes();
    request.mutable_hold()->set_to(options_.node);
    if (const auto held = resident_->call(request); !held) return held.error();
  }
  std::vector<std::string> environment;
  if (options_.lazy) {
    auto blinkers = prepare_blinkers(folder_);
    if (!blinkers) return blinkers.error();
    environment = std::move(*blinkers);
  }
  talk_->warm_room(kUsualImages);
  auto dump = ContextDump::start(
      {.criu = options_.criu,
       .inside = plan_.inside,
       .beside = plan_.migrant ? options_.pid : 0,
       .folder = folder_,
       .lazy = options_.lazy,
       .connections = !plan_.moving_addresses.empty(),
       .external = plan_.terminal ? criu_names(*plan_.terminal) : std::vector<std::string>(),
       .keep = guard_->fd(),
       .environment = std::move(environment)});
  if (!dump) return dump.error();
  progress.freezing();
  guard_->freezing();
  // Areas change with memory that is still coming.
  if (options_.lazy && plan_.out_pages == 0) hidden_.foresee(processes());
  if (Status prepared = prepare_sharers(options_.pid); !prepared) return prepared;
  if (hold_ != nullptr) hold_->hold();
  const auto standing = stand_still(options_.pid, kUnlocked, [this]() -> const HeldLocks& {
    return locks_ = held_locks(tree_of(options_.pid), plan_.covers, options_.node);
  });
  if (!standing) return standing.error();
  hurry_.emplace();
  auto begin = *standing;
  const auto still = Clock::now();
  if (Status left = leave_sharers(options_.pid, options_.socket); !left) return left;
  if (Status shared = share_memory(); !shared) return shared;
  moved_.phases.leave = milliseconds_since(still);
  if (options_.lazy) {
    hidden_.find(processes());
    if (Status hidden = hidden_.hide(folder_); !hidden) return hidden;
  }
  if (Status offered = offer_locks(); !offered) return offered;
  moved_.phases.stop = milliseconds_since(begin);
  if (Status going = dump->go_on(); !going) return going;
  hidden_.look();
  const bool early = dump->await_images();
  if (!early)
    if (Status ended = dump->end(); !ended) return ended;
  moved_.phases.dump = milliseconds_since(begin);
  begin = Clock::now();
  const Status sent = send_images();
  // Not before it has let go of the process, whatever happened.
  if (early)
    if (Status ended = dump->end(); !ended) return ended;
  if (!sent) return sent;
  moved_.phases.transfer = milliseconds_since(begin);
  begin = Clock::now();
  if (options_.lazy) start_filling();
  // While the target works. The process may have grown since it was looked at.
  if (Status sure = hidden_.make_sure(); !sure) return sure;
  if (store_ && store_->pages() * kPageSize > plan_.private_bytes)
    if (Status fits = check_room(store_->pages(), 0);
        !fits && fits.error().code == ErrorCode::kNoSpace)  // not that nobody says
      return fits;
  const auto restored = expect(Message::kRestored, kRestore);
  if (!restored) return restored.error();
  if (restored->restored().common_areas() != moved_.common.places)
    return make_error(ErrorCode::kProtocol,
                      "node " + options_.node +
                          " has not mapped all memory that the process shares; "
                          "does gobmigrate serve there have this release?");
  if (restored->restored().locks() != locks_.going.size())
    return make_error(ErrorCode::kProtocol,
                      "node " + options_.node +
                          " has not taken over all locks that the process holds; "
                          "does gobmigrate serve there have this release?");
  if (Status filling = check_filling(restored->restored().early()); !filling) return filling;
  moved_.phases.fetch = restored->restored().fetch_ms();
  moved_.phases.make = restored->restored().make_ms();
  moved_.phases.join = restored->restored().join_ms();
  moved_.phases.restore = milliseconds_since(begin);
  return {};
}

// What it has in common with processes that stay becomes containers, and what became such before is
// left.
Status SourceRun::share_memory() {
  if (common_ == nullptr) return {};
  auto shared = common_->share(options_.pid);
  if (!shared) return shared.error();
  moved_.common = *shared;
  return {};
}

// The target holds them as well before it says that the process is there.
Status SourceRun::offer_locks() {
  moved_.locks = locks_.going.size();
  if (locks_.going.empty()) return {};
  unsigned to = 0;
  while (gob_->node_name(static_cast<int>(to)) != options_.node) ++to;
  guard_->offers_locks();
  return migration::offer_locks(locks_.going, to);
}

Status SourceRun::reach_resident() {
  if (gob_->node_name(gob_->node_id()) != plan_.node)
    return make_error(ErrorCode::kInvalidArgument,
                      "process " + std::to_string(plan_.pid) + " belongs to node " + plan_.node +
                          ": start gobmigrate with the socket of its gobd");
  if (!options_.lazy && plan_.out_pages != 0)
    return make_error(
        ErrorCode::kUnavailable,
        "part of its memory is still on its way here; wait for it (gobmigrate --wait), "
        "or use --mode gob");
  auto resident = Resident::connect(plan_.pid);
  if (!resident) return resident.error();
  resident_.emplace(std::move(*resident));
  return {};
}

// All processes of the tree that live now.
ResidentRequest::Processes SourceRun::processes() const {
  ResidentRequest::Processes all;
  for (const pid_t pid : tree_of(options_.pid)) {
    ResidentRequest::Process& process = *all.add_processes();
    process.set_pid(pid);
    process.set_inside(inside_number(pid));
  }
  return all;
}

// What an earlier move still owes the process. Pages may come while the context is being taken:
// what the stopped process has by now counts, whether CRIU saw it or not.
Status SourceRun::ask_what_is_out(std::vector<LazyTask>& tasks) {
  if (!resident_) return {};
  ResidentRequest request;
  *request.mutable_frozen() = processes();
  auto answer = resident_->call(request);
  if (!answer) return answer.error();
  *memory_.mutable_inherited() = answer->out().inherited();
  for (const Memory::Task& said : answer->out().tasks()) {
    const auto task = std::ranges::find(tasks, said.pid(), &LazyTask::pid);
    if (task == tasks.end()) continue;  // it has ended
    LazyRanges out;
    for (const Run& run : said.runs()) out.add(run.start(), run.page(), run.pages());
    for (const LazyRun& run : task->saved) out.drop(run.start, run.start + run.pages * kPageSize);
    for (const LazyRanges::Run& run : out.runs()) {
      for (const std::uint64_t page : present_pages(outside_[said.pid()], run.address, run.pages)) {
        task->runs.push_back({page, 1});
        out.drop(page, page + kPageSize);
      }
    }
    Memory::Task& entry = *memory_.add_tasks();
    entry.set_pid(said.pid());
    for (const LazyRanges::Run& left : out.runs()) {
      moved_.out_pages += left.pages;
      Run& run = *entry.add_runs();
      run.set_start(left.address);
      run.set_page(left.page);
      run.set_pages(left.pages);
      for (const Memory::Store& store : answer->out().stores())
        if (left.page >= store.first() && left.page < store.first() + store.pages() &&
            std::ranges::find(memory_.stores(), store.first(), &Memory::Store::first) ==
                memory_.stores().end())
          *memory_.add_stores() = store;
    }
  }
  return {};
}

Status SourceRun::send_images() {
  Message message;
  Images& images = *message.mutable_images();
  if (Status shown = hidden_.show(folder_); !shown) return shown;
  auto tasks = read_lazy_tasks(folder_);
  if (!tasks) return tasks.error();
  hidden_.add_to(*tasks);
  const ResidentRequest::Processes all = processes();
  for (const ResidentRequest::Process& process : all.processes())
    outside_[process.inside()] = process.pid();
  if (!shares_zero_page()) {
    for (LazyTask& task : *tasks) {
      for (Area& area : task.areas) area.lazy = area.lazy && options_.lazy;
      if (Status added = add_left_out(outside_[task.pid], task); !added) return added;
    }
  }
  if (options_.lazy) {
    if (Status asked = ask_what_is_out(*tasks); !asked) return asked;
    std::vector<pid_t> pids;
    for (const LazyTask& task : *tasks) pids.push_back(outside_[task.pid]);
    if (Status assigned = store_->assign(*tasks, pids, memory_); !assigned) return assigned;
    moved_.lazy_pages = store_->pages();
    moved_.hidden_pages = hidden_.pages();
  }
  if (plan_.terminal)
    if (Status freed = forget_session(folder_); !freed) return freed;
  if (resident_ && (!plan_.streams.empty() || plan_.terminal)) {
    ResidentRequest request;
    request.set_still(true);
    const auto answer = resident_->call(request);
    if (!answer) return answer.error();
    *images.mutable_rests() = answer->rests();
  }
  images.set_node(static_cast<std::uint32_t>(gob_->node_id()));
  for (const HeldLock& held : locks_.going) {
    *images.add_locks() = held;
    images.mutable_locks()->rbegin()->set_pid(inside_number(held.pid()));
  }
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder_)) {
    if (entry.path().extension() != ".img") continue;
    ImageFile& file = *images.add_files();
    file.set_name(entry.path().filename());
    file.set_size_bytes(entry.file_size());
    files.push_back(entry.path());
    moved_.image_bytes += entry.file_size();
  }
  const std::string memory = memory_.SerializeAsString();
  images.set_memory_bytes(memory.size());
  const std::uint64_t bytes = moved_.image_bytes + memory.size();
  if (bytes <= talk_->room().size()) {
    images.set_in_room(true);
    if (Status put = put_images(images, files, memory, talk_->room().data()); !put) return put;
    return talk_->send(message, kTakeOver);
  }
  try {
    const std::string name = session_ + ".image";
    gob_->create(name, bytes);
    const gobelins::Mapping container = gob_->open(name).map();
    if (Status put = put_images(images, files, memory, container.data()); !put) return put;
    return talk_->send(message, kTakeOver);
  } catch (const std::system_error& error) {
    return error_of(error, "putting the images into a container");
  }
}

void SourceRun::start_filling() {
  filler_ = std::thread([this] {
    take_time();
    const auto begin = Clock::now();
    filled_ = store_->fill();
    filler_ended_ = true;
    moved_.phases.hand_over = milliseconds_since(begin);
  });
}

// The last moment at which the process can go on here if its memory cannot get into the containers.
// Without `early` (Restored) these may have taken long, and the process may be there no more.
Status SourceRun::check_filling(bool early) {
  if (!filler_.joinable()) return {};
  if (!store_->await_early() || filler_ended_) {
    filler_.join();
    if (!filled_) return talk_->reason_of(filled_.error());
  }
  if (early) return {};
  Message ask;
  ask.set_still(true);
  if (Status said = talk_->send(ask, kTakeOver); !said) return said;
  const auto still = expect(Message::kStill, kTakeOver);
  return still ? Status() : Status(still.error());
}

// The moment of truth. The guard first: once it knows, the source can only die.
Status SourceRun::take_over() {
  const auto begin = Clock::now();
  std::vector<std::string> theirs{memory_.inherited().begin(), memory_.inherited().end()};
  for (const Cover& cover : plan_.covers)
    if (!cover.name().empty()) theirs.push_back(cover.name());
  if (Status sure = guard_->committed(theirs); !sure) return sure;
  if (resident_) {
    ResidentRequest request;
    request.set_moved_on(options_.node);
    if (const auto left = resident_->call(request); !left) return left.error();
  }
  // If one stays, the target's announcement comes later, and counts.
  for (const Address& address : plan_.moving_addresses)
    static_cast<void>(remove_address(address).ok());
  Message go;
  go.set_go(true);
  if (Status said = talk_->send(go, kTakeOver); !said) return said;
  guard_->gone();
  const auto running = expect(Message::kRunning, kTakeOver);
  if (!running) return running.error();
  hurry_.reset();
  moved_.there = static_cast<pid_t>(running->running());
  moved_.phases.take_over = milliseconds_since(begin);
  running_since_ = Clock::now();
  return {};
}

Status SourceRun::finish() {
  if (!filler_.joinable()) return {};
  store_->set_pace(options_.stream ? SourceStore::Pace::kLed : SourceStore::Pace::kAll);
  filler_.join();
  if (filled_) store_->end_live();
  return filled_;
}

}  // namespace gob::migration
