// The phases of a migration at its source.
#include "libgob/migration/source_run.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "libgob/migration/criu.h"
#include "libgob/migration/criu_images.h"
#include "libgob/migration/session.h"

namespace gob::migration {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kDump{60};
constexpr std::chrono::seconds kRestore{150};
constexpr std::chrono::seconds kTakeOver{30};
// CRIU's page server: we want none of its pages, only its end.
constexpr std::uint32_t kPageServerClose = 0x1023;

double milliseconds_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

}  // namespace

SourceRun::~SourceRun() {
  stop_filling_ = true;
  if (filler_.joinable()) filler_.join();
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

Result<Moved> SourceRun::migrate(const std::function<void(const Moved&)>& running) {
  Status status = open();
  if (status && options_.lazy) {
    // Before the freeze, a little more than what is there now.
    auto store = SourceStore::create(*gob_, session_, plan_.private_bytes / kPageSize * 9 / 8);
    if (store)
      store_.emplace(std::move(*store));
    else
      status = store.error();
  }
  if (status) status = freeze_and_move();
  if (!status) {
    // The guard lets the process go on, and removes what is left.
    give_up(status.error().message());
    return status.error();
  }
  status = take_over();
  if (status) {
    running(moved_);
    status = finish();
  }
  if (!status) {
    signal_tree(options_.pid, SIGKILL);
    return make_error(ErrorCode::kLost, "the process was lost after the target had taken over: " +
                                            status.error().message());
  }
  signal_tree(options_.pid, SIGKILL);
  guard_->done();
  return moved_;
}

Status SourceRun::freeze_and_move() {
  std::error_code error;
  fs::create_directory(folder_, error);
  if (error) return make_error(ErrorCode::kSystem, "making " + folder_ + ": " + error.message());
  fs::permissions(folder_, fs::perms::owner_all, error);
  auto begin = Clock::now();
  guard_->freezing();
  if (Status dumped = dump(); !dumped) return dumped;
  moved_.phases.dump = milliseconds_since(begin);
  begin = Clock::now();
  if (Status sent = send_images(); !sent) return sent;
  moved_.phases.transfer = milliseconds_since(begin);
  begin = Clock::now();
  if (options_.lazy) start_filling();
  if (const auto restored = expect(Message::kRestored, kRestore); !restored)
    return restored.error();
  moved_.phases.restore = milliseconds_since(begin);
  return {};
}

Status SourceRun::dump() {
  int pages[2];
  int status_pipe[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pages) != 0)
    return system_error("creating a socket pair");
  UniqueFd ours(pages[0]);
  UniqueFd theirs(pages[1]);
  if (::pipe2(status_pipe, O_CLOEXEC) != 0) return system_error("creating a pipe");
  UniqueFd written(status_pipe[0]);
  UniqueFd write_end(status_pipe[1]);
  std::vector<std::string> argv{options_.criu,
                                "dump",
                                "--tree",
                                std::to_string(options_.pid),
                                "--images-dir",
                                folder_,
                                "--leave-stopped",
                                "--shell-job",
                                "--log-file",
                                "dump.log",
                                "-v2",
                                "--timeout",
                                "20"};
  std::vector<int> keep{guard_->fd()};
  if (options_.lazy) {
    for (const std::string& argument :
         {std::string("--lazy-pages"), std::string("--ps-socket"), std::to_string(theirs.get()),
          std::string("--status-fd"), std::to_string(write_end.get())})
      argv.push_back(argument);
    keep.push_back(theirs.get());
    keep.push_back(write_end.get());
  }
  auto child = Child::start(argv, keep);
  if (!child) return child.error();
  theirs.reset();
  write_end.reset();
  if (options_.lazy) {
    pollfd waiting[2] = {{written.get(), POLLIN, 0}, {child->fd(), POLLIN, 0}};
    const int limit = static_cast<int>(std::chrono::milliseconds(kDump).count());
    while (::poll(waiting, 2, limit) < 0 && errno == EINTR) continue;
    char byte = 0;
    // Otherwise CRIU has ended, or is late and will be killed: its status tells.
    if ((waiting[0].revents & POLLIN) != 0 && ::read(written.get(), &byte, 1) == 1) {
      std::array<char, 32> close{};
      std::memcpy(close.data(), &kPageServerClose, sizeof kPageServerClose);
      static_cast<void>(!::send(ours.get(), close.data(), close.size(), MSG_NOSIGNAL));
    }
  }
  const auto status = child->wait(kDump);
  if (!status) return status.error();
  if (*status == 0) return {};
  return make_error(ErrorCode::kSystem, "CRIU could not take the context of process " +
                                            std::to_string(options_.pid) + " (status " +
                                            std::to_string(*status) +
                                            "): " + errors_of_log(folder_ + "/dump.log"));
}

Status SourceRun::send_images() {
  Message message;
  Images& images = *message.mutable_images();
  if (options_.lazy) {
    const auto tasks = read_lazy_tasks(folder_);
    if (!tasks) return tasks.error();
    std::vector<pid_t> pids;  // inside and outside are the same: one pid namespace
    for (const LazyTask& task : *tasks) pids.push_back(task.pid);
    if (Status assigned = store_->assign(*tasks, pids); !assigned) return assigned;
    for (const std::string& name : store_->names()) images.add_stores(name);
    images.set_pages(store_->pages());
    moved_.lazy_pages = store_->pages();
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
  try {
    const std::string name = session_ + ".image";
    gob_->create(name, moved_.image_bytes);
    const gobelins::Mapping bytes = gob_->open(name).map();
    char* at = static_cast<char*>(bytes.data());
    for (std::size_t i = 0; i < files.size(); ++i) {
      const auto size =
          static_cast<std::streamsize>(images.files(static_cast<int>(i)).size_bytes());
      std::ifstream in(files[i], std::ios::binary);
      if (!in.read(at, size)) return system_error("reading " + files[i].string());
      at += size;
    }
  } catch (const std::system_error& error) {
    return error_of(error, "putting the images into a container");
  }
  return talk_->send(message, kTakeOver);
}

void SourceRun::start_filling() {
  filler_ = std::thread([this] {
    const auto begin = Clock::now();
    filled_ = store_->fill([this]() -> Status {
      if (!stop_filling_) return {};
      return make_error(ErrorCode::kUnavailable, "the migration was given up");
    });
    moved_.phases.hand_over = milliseconds_since(begin);
  });
}

// The moment of truth. The guard first: once it knows, the source can only die.
Status SourceRun::take_over() {
  const auto begin = Clock::now();
  if (Status sure = guard_->committed(); !sure) return sure;
  Message go;
  go.set_go(true);
  if (Status said = talk_->send(go, kTakeOver); !said) return said;
  const auto running = expect(Message::kRunning, kTakeOver);
  if (!running) return running.error();
  moved_.there = static_cast<pid_t>(running->running());
  moved_.phases.take_over = milliseconds_since(begin);
  return {};
}

Status SourceRun::finish() {
  if (!filler_.joinable()) return {};
  filler_.join();
  return filled_;
}

}  // namespace gob::migration
