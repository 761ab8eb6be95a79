#include "libgob/migration/target.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>

#include "libgob/migration/common_link.h"
#include "libgob/migration/criu.h"
#include "libgob/migration/criu_images.h"
#include "libgob/migration/file_facts.h"
#include "libgob/migration/hurry.h"
#include "libgob/migration/inspect.h"
#include "libgob/migration/joined_locks.h"
#include "libgob/migration/lazy_server.h"
#include "libgob/migration/outside_terminal.h"
#include "libgob/migration/proc.h"
#include "libgob/migration/session.h"
#include "libgob/migration/shared_memory.h"
#include "libgob/migration/sharers.h"
#include "libgob/migration/talk.h"
#include "libgob/migration/target_run.h"
#include "libgob/migration/timers.h"
#include "libgob/migration/view.h"
#include "libgob/migration/warden.h"

namespace gob::migration {
namespace {
using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::duration<double, std::milli>;
constexpr std::chrono::seconds kAnswer{60};
constexpr std::chrono::minutes kImages{10};
constexpr std::chrono::seconds kHeard{10};
constexpr int kViewMs = 30'000;
constexpr int kRestoreMs = 120'000;
constexpr int kLookMs = 200;
constexpr std::int32_t kRestoreFinished = 0x52535446;
constexpr const char* kFirstImage = "inventory.img";
constexpr const char* kLog = "restore.log";
}  // namespace

Status TargetRun::run() {
  Status status = take_over();
  std::chrono::seconds patience{0};
  if (!status) {
    Message refused;
    refused.set_refused(status.error().message());
    // The source has to read it before its container goes, which the warden would remove at once.
    if (talk_ && talk_->send(refused, std::chrono::seconds(2)) && warden_.cleaned())
      patience = kHeard;
  } else {
    status = stay();
  }
  if (status) return status;
  // The warden ends the migrant and removes what is left; if it died, this process has to.
  server_.reset();
  stores_.reset();
  warden_.end();
  if (migrant_ != 0) keeper_->ended(SIGKILL, status.error().message());
  if (migrant_ == 0 && !addresses_.empty()) {
    for (const Address& address : addresses_)
      if (!address.device.empty()) static_cast<void>(remove_address(address).ok());
    let_packets("gob-" + options_.session);
  }
  if (migrant_ != 0 && streams_) streams_->finish();
  if (sessions_.empty()) sessions_ = {options_.session, files_of(options_.session)};
  sessions_.insert(sessions_.end(), attached_.begin(), attached_.end());
  clean_up(patience);
  return status;
}

Status TargetRun::take_over() {
  try {
    stay_.emplace(options_.socket);
  } catch (const std::system_error& error) {
    return error_of(error, "connecting to gobd at " + options_.socket);
  }
  if (const auto stays = take_lock(*stay_, stay_lock(options_.session, false), kAnswer); !stays)
    return stays.error();
  const auto begin = talk_->receive(kAnswer);
  if (!begin) return begin.error();
  if (!begin->has_begin()) return make_error(ErrorCode::kProtocol, "the source begins oddly");
  begin_ = begin->begin();
  auto ready = check();
  if (!ready) return ready.error();
  Message message;
  *message.mutable_ready() = std::move(*ready);
  if (Status said = talk_->send(message, kAnswer); !said) return said;
  const auto view = talk_->receive(kImages);
  if (!view) return view.error();
  if (!view->has_view())
    return make_error(ErrorCode::kUnavailable, "the source gave up: " + view->abort());
  auto keeper = Keeper::open(options_.socket, view->view().record(), options_.session);
  if (!keeper) return keeper.error();
  keeper_ = std::move(*keeper);
  if (Status shown = show(view->view()); !shown) return shown;
  if (Status held = hold_addresses(); !held) return held;
  if (begin_.lazy()) {
    priority_ = page_service_priority(options_.socket);
    auto stores = TargetStores::open(options_.socket);
    if (!stores) return stores.error();
    stores_.emplace(std::move(*stores));
    if (Status opened = stores_->prepare(*gob_, options_.session, view->view().pages()); !opened)
      return opened;
  }
  if (Status made = make_streams(); !made) return made;
  if (Status waits = wait_with_criu(); !waits) return waits;
  message.set_viewed(true);
  if (Status said = talk_->send(message, kAnswer); !said) return said;
  const auto images = talk_->receive(kImages);
  if (!images) return images.error();
  if (!images->has_images())
    return make_error(ErrorCode::kUnavailable, "the source gave up: " + images->abort());
  const auto sent = Clock::now();
  std::optional<Hurry> in_a_hurry;
  in_a_hurry.emplace();
  rests_ = images->images().rests();
  if (Status taken = take_images(images->images()); !taken) return taken;
  if (!addresses_.empty()) {
    if (Status asked = warden_.add_addresses(); !asked) return asked;
    if (Status added = await_network(); !added) return added;
  }
  if (Status goes_on = release_criu(); !goes_on) return goes_on;
  const auto released = Clock::now();
  // CRIU is not that fast.
  if (Status made = prepare_memory(); !made) return made;
  if (Status restored = restore(); !restored) return restored;
  const auto made = Clock::now();
  std::optional<CommonLink> common;  // until the process runs
  JoinedLocks locks;
  if (const auto migrant = warden_.migrant(root_); migrant) {
    if (Status joined = join_sharers(*migrant, options_.socket); !joined) return joined;
    if (Status joined = join_common(*migrant, common); !joined) return joined;
    message.mutable_restored()->set_common_areas(common_areas_);
    if (begin_.timers() != 0) rearm_timers(*migrant);
    const auto alarms = read_alarms(folder_);
    if (!alarms) return alarms.error();
    if (Status armed = rearm_alarms(*migrant, *alarms); !armed) return armed;
    auto joined = JoinedLocks::join(*migrant, images->images());
    if (!joined) return joined.error();
    locks = std::move(*joined);
    message.mutable_restored()->set_locks(locks.size());
  }
  message.mutable_restored()->set_early(stores_ && stores_->is_early_in(options_.session));
  message.mutable_restored()->set_fetch_ms(Milliseconds(released - sent).count());
  message.mutable_restored()->set_make_ms(Milliseconds(made - released).count());
  message.mutable_restored()->set_join_ms(Milliseconds(Clock::now() - made).count());
  if (Status said = talk_->send(message, kAnswer); !said) return said;
  auto go = talk_->receive(kAnswer);
  while (go && go->still()) {
    pollfd gone{warden_.fd(), POLLIN, 0};
    if (::poll(&gone, 1, 0) != 0)
      return make_error(ErrorCode::kSystem, "the warden of the process died before it could run");
    if (Status said = talk_->send(*go, kAnswer); !said) return said;
    go = talk_->receive(kAnswer);
  }
  if (!go) return go.error();
  if (!go->go()) return make_error(ErrorCode::kUnavailable, "the source gave up: " + go->abort());
  // From here on they are this node's to remove.
  sessions_ = {memory_.inherited().begin(), memory_.inherited().end()};
  for (const std::string& session : sessions_)
    if (Status owned = warden_.own(session); !owned) return owned;
  for (const Cover& cover : view_.covers())
    if (!cover.name().empty()) attached_.push_back(cover.name());
  for (const std::string& name : attached_)
    if (Status told = warden_.attached(name); !told) return told;
  sessions_.push_back(options_.session);
  if (streams_ && streams_->terminal() != nullptr) streams_->terminal()->fill(rests_);
  locks.moved();
  if (Status went = warden_.go(); !went) return went;
  in_a_hurry.reset();
  if (server_) server_->runs(begin_.stream());
  migrant_ = warden_.migrant(root_).value_or(0);
  if (migrant_ != 0) migrant_fd_ = open_process(migrant_);
  keeper_->runs(node_, migrant_, server_ ? server_->pages_out() : 0);
  if (streams_) streams_->start(rests_);
  spdlog::info("{}: process {} runs here as {}", options_.session, root_, migrant_);
  message.set_running(static_cast<std::uint32_t>(migrant_));
  // If the source does not hear it, it runs all the same: the source is given up.
  static_cast<void>(talk_->send(message, kAnswer));
  // It has been made of them, and what stays at the source may stay there for long.
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
  return {};
}

// From here on nothing answers for them at this node before the process does.
Status TargetRun::hold_addresses() {
  if (addresses_.empty()) return {};
  if (Status asked = warden_.hold_addresses("gob-" + options_.session, addresses_); !asked)
    return asked;
  return await_network();
}

Status TargetRun::await_network() {
  pollfd waiting{warden_.fd(), POLLIN, 0};
  while (::poll(&waiting, 1, kViewMs) == 1) {
    const Warden::News news = warden_.receive();
    if (news.what == Warden::News::What::kNetwork)
      return news.error.empty() ? Status() : make_error(ErrorCode::kUnavailable, news.error);
    if (news.what != Warden::News::What::kRestored)
      return make_error(ErrorCode::kUnavailable, "the warden of the process died");
    criu_gave_up_ = true;
  }
  return make_error(ErrorCode::kTimedOut, "the network is not set up in time");
}

// Folders of other nodes appear to the migrant, and to CRIU when it makes it.
Status TargetRun::show(const View& view) {
  view_ = view;
  root_ = view.root();
  if (view.covers().empty()) return {};
  const auto mount = mount_path(options_.socket);
  if (!mount) return mount.error();
  if (Status asked = warden_.view(binds_of(view, {node_, *mount}), options_.criu); !asked)
    return asked;
  pollfd waiting{warden_.fd(), POLLIN, 0};
  if (::poll(&waiting, 1, kViewMs) != 1)
    return make_error(ErrorCode::kTimedOut, "the folders of other nodes cannot be mounted in time");
  const Warden::News news = warden_.receive();
  if (news.what != Warden::News::What::kViewed)
    return make_error(ErrorCode::kUnavailable, "the warden of the process died");
  return news.error.empty() ? Status() : make_error(ErrorCode::kUnavailable, news.error);
}

// The process's ends of its pipes to the source, which CRIU puts in the place of those it had.
Status TargetRun::make_streams() {
  if (view_.streams().empty() && !view_.has_terminal()) return {};
  auto streams = TargetStreams::open(options_.socket, view_.record(), view_.streams(),
                                     view_.has_terminal() ? &view_.terminal() : nullptr);
  if (!streams) return streams.error();
  streams_ = std::move(*streams);
  const std::vector<UniqueFd> ends = streams_->ends();
  for (const UniqueFd& end : ends)
    if (Status given = warden_.stream(end.get()); !given) return given;
  if (view_.terminal().controls()) return warden_.control(ends.back().get());
  return {};
}

// CRIU takes longer to look at the kernel than to make a process. It is started before the source
// freezes: the first image it opens, which tells what the others are, is a FIFO until all are
// there.
Status TargetRun::wait_with_criu() {
  std::error_code error;
  std::filesystem::create_directory(folder_, error);
  if (error) return make_error(ErrorCode::kSystem, "making " + folder_ + ": " + error.message());
  std::filesystem::permissions(folder_, std::filesystem::perms::owner_all, error);
  if (begin_.lazy()) {
    listener_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string path = folder_ + "/lazy-pages.socket";
    if (path.size() >= sizeof address.sun_path)
      return make_error(ErrorCode::kInvalidArgument, "the name of " + path + " is too long");
    path.copy(address.sun_path, path.size());
    if (::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener_.get(), 1) != 0)
      return system_error("listening for CRIU at " + path);
  }
  const std::string first = folder_ + "/" + kFirstImage;
  if (::mkfifo(first.c_str(), 0600) != 0) return system_error("making the FIFO " + first);
  // Both ways: neither this open nor CRIU's waits for the other.
  inventory_.reset(::open(first.c_str(), O_RDWR | O_CLOEXEC));
  if (!inventory_) return system_error("opening the FIFO " + first);
  return start_criu();
}

Status TargetRun::start_criu() {
  std::vector<std::string> argv{options_.criu,     "restore",     "--restore-detached",
                                "--leave-stopped", "--shell-job", "--images-dir",
                                folder_,           "--work-dir",  folder_,
                                "--log-file",      kLog,          "-v2"};
  if (begin_.lazy()) argv.emplace_back("--lazy-pages");
  if (!addresses_.empty())
    argv.insert(argv.end(), {"--tcp-established", "--network-lock", "nftables"});
  int fd = kFirstStream;
  for (const Stream& stream : view_.streams()) {
    argv.emplace_back("--inherit-fd");
    argv.push_back("fd[" + std::to_string(fd++) + "]:pipe:[" + std::to_string(stream.pipe()) + "]");
  }
  for (const std::string& name : criu_names(view_.terminal())) {
    argv.emplace_back("--inherit-fd");
    argv.push_back("fd[" + std::to_string(fd++) + "]:" + name);
  }
  return warden_.restore(argv, root_);
}

// All images are there but the first, which lies beside its name. If CRIU has opened the FIFO, it
// gets the image from there; if not, it will find the file.
Status TargetRun::release_criu() {
  for (const pid_t pid : tree_of(warden_.pid()))  // CRIU
    if (pid != warden_.pid()) hurry(pid);
  looked_ = length_of_log(folder_ + "/" + kLog);
  const std::string first = folder_ + "/" + kFirstImage;
  std::ifstream file(first + ".new", std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  if (!file || bytes.empty() || bytes.size() > PIPE_BUF)
    return make_error(ErrorCode::kProtocol, "the source's images lack a sound " + first);
  std::error_code error;
  std::filesystem::rename(first + ".new", first, error);
  if (error) return make_error(ErrorCode::kSystem, "renaming " + first + ": " + error.message());
  if (::write(inventory_.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
    return system_error("handing " + first + " to CRIU");
  inventory_.reset();
  pollfd ended{warden_.fd(), POLLIN, 0};
  if (!criu_gave_up_ &&
      (::poll(&ended, 1, 0) != 1 || warden_.receive().what != Warden::News::What::kRestored))
    return {};
  // It began with another image, and did not find it: now it will.
  return start_criu();
}

Status TargetRun::take_images(const Images& images) {
  if (images.in_room()) return write_images(images, talk_->room());
  try {
    const gobelins::Mapping bytes = gob_->open(options_.session + ".image").map();
    return write_images(images, {static_cast<const char*>(bytes.data()), bytes.size_bytes()});
  } catch (const std::system_error& failed) {
    return error_of(failed, "taking the images");
  }
}

Status TargetRun::write_images(const Images& images, std::string_view bytes) {
  for (const ImageFile& file : images.files()) {
    if (file.size_bytes() > bytes.size() || file.name().find('/') != std::string::npos)
      return make_error(ErrorCode::kProtocol, "an image of the source is not what it seems");
    // write(2) makes an error of a page that cannot be had.
    const std::string path =
        folder_ + "/" + file.name() + (file.name() == kFirstImage ? ".new" : "");
    const UniqueFd out(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    for (std::uint64_t done = 0; done < file.size_bytes();) {
      const ssize_t step =
          out ? ::write(out.get(), bytes.data() + done, file.size_bytes() - done) : -1;
      if (step <= 0) return system_error("writing image " + path);
      done += static_cast<std::uint64_t>(step);
    }
    bytes.remove_prefix(file.size_bytes());
  }
  std::string memory(std::min<std::size_t>(bytes.size(), images.memory_bytes()), '\0');
  if (Status got = load(memory.data(), bytes.data(), memory.size()); !got) return got;
  if (images.memory_bytes() > bytes.size() || !memory_.ParseFromString(memory))
    return make_error(ErrorCode::kProtocol, "what the source says of the memory is odd");
  return {};
}

Status TargetRun::prepare_memory() {
  const auto pids = read_processes(folder_);
  if (!pids) return pids.error();
  if (pids->front() != root_)
    return make_error(ErrorCode::kProtocol, "the images are of another process");
  if (!begin_.lazy()) return {};
  for (const pid_t pid : *pids) ranges_[pid];  // CRIU has a userfaultfd also for one without pages
  for (const Memory::Task& task : memory_.tasks())
    for (const Run& run : task.runs())
      ranges_[task.pid()].add(run.start(), run.page(), run.pages());
  for (const Memory::Store& store : memory_.stores()) {
    if (Status added = stores_->add(*gob_, store); !added) return added;
    if (store.session() != options_.session) continue;
    for (const Memory::Task& task : memory_.tasks())
      for (const Run& run : task.runs())
        if (run.page() >= store.first() && run.page() < store.first() + store.early())
          early_[task.pid()].push_back({run.start(), run.page(), run.pages()});
  }
  auto server =
      LazyServer::create(*stores_, [this](int uffd) { static_cast<void>(warden_.hold(uffd)); },
                         priority_);
  if (!server) return server.error();
  server_ = std::move(*server);
  return {};
}

// Containers in the places of memory that it shares. A process of its own looks after them.
Status TargetRun::join_common(pid_t migrant, std::optional<CommonLink>& common) {
  const std::vector<pid_t> pids = tree_of(migrant);
  if (std::ranges::all_of(pids, [](pid_t pid) { return places_of(pid).empty(); })) return {};
  auto started = CommonLink::start(options_.socket, /*log=*/true);
  if (!started) return started.error();
  common.emplace(std::move(*started));
  const auto joined = common->join(migrant);
  if (!joined) return joined.error();
  common_areas_ = *joined;
  return {};
}

// CRIU hands over one userfaultfd for each process, then says that it is through.
Status TargetRun::hear_criu() {
  std::int32_t word = 0;
  const ssize_t got =
      TEMP_FAILURE_RETRY(::recv(criu_socket_.get(), &word, sizeof word, MSG_WAITALL));
  if (got != sizeof word) {
    criu_socket_.reset();
    return {};
  }
  if (word == kRestoreFinished || word < 0) return {};  // negative: a zombie, without memory
  char byte = 0;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  iovec part{&byte, 1};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (TEMP_FAILURE_RETRY(::recvmsg(criu_socket_.get(), &message, MSG_CMSG_CLOEXEC)) < 0)
    return system_error("taking the userfaultfd of process " + std::to_string(word) + " from CRIU");
  if ((message.msg_flags & MSG_CTRUNC) != 0)
    return make_error(ErrorCode::kNoSpace, "no file descriptor is left for another process",
                      EMFILE);
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || !ranges_.contains(word))
    return make_error(ErrorCode::kProtocol,
                      "CRIU hands over " + std::string(header == nullptr ? "no" : "a") +
                          " userfaultfd for process " + std::to_string(word) +
                          (ranges_.contains(word) ? "" : ", which is not in its images"));
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
  UniqueFd uffd(fd);
  if (Status held = warden_.hold(fd); !held) return held;
  server_->add(std::move(uffd), ranges_[word], word, std::move(early_[word]));
  return {};
}

Status TargetRun::restore() {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(kRestoreMs);
  while (std::chrono::steady_clock::now() < deadline) {
    pollfd waiting[3] = {{warden_.fd(), POLLIN, 0},
                         {criu_socket_ ? criu_socket_.get() : listener_.get(), POLLIN, 0},
                         {server_ ? server_->fd() : -1, POLLIN, 0}};
    if (::poll(waiting, 3, kLookMs) < 0 && errno != EINTR) return system_error("waiting for CRIU");
    if (waiting[1].revents != 0) {
      if (!criu_socket_) {
        criu_socket_.reset(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      } else if (Status heard = hear_criu(); !heard) {
        return heard;
      }
    }
    if (server_) {
      server_->clear_fd();
      if (const auto lost = server_->failure()) return *lost;
    }
    if (waiting[0].revents == 0) continue;
    const Warden::News news = warden_.receive();
    if (news.what == Warden::News::What::kRestored && news.status == 0) return {};
    return make_error(
        ErrorCode::kSystem,
        news.what == Warden::News::What::kGone ? "the warden of the process died during the restore"
        : news.status > 128
            ? "CRIU was killed while it restored the process (signal " +
                  std::to_string(news.status - 128) + ")"
            : "CRIU could not restore the process (status " + std::to_string(news.status) +
                  "): " + errors_of_log(folder_ + "/" + kLog, looked_));
  }
  return make_error(ErrorCode::kTimedOut, "CRIU did not restore the process in time");
}

Status run_target(const TargetOptions& options) {
  const std::string folder = options.folder + "/gob-" + options.session;
  auto warden = Warden::start(options.socket, options.session, folder);
  if (!warden) return warden.error();
  std::optional<gobelins::Connection> gob;
  std::string node;
  try {
    gob.emplace(options.socket);
    node = gob->node_name(gob->node_id());
  } catch (const std::system_error& error) {
    return error_of(error, "connecting to gobd at " + options.socket);
  }
  auto talk = Talk::open(*gob, options.session, End::kTarget);
  if (!talk) return talk.error();
  return TargetRun(options, folder, node, std::move(*warden), std::move(*gob), std::move(*talk))
      .run();
}

}  // namespace gob::migration
