#include "libgob/migration/common_keeper.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <gob.hpp>
#include <list>
#include <random>
#include <set>
#include <sstream>

#include "libgob/base/file_limit.h"
#include "libgob/migration/common_container.h"
#include "libgob/migration/common_losses.h"
#include "libgob/migration/common_mapper.h"
#include "libgob/migration/common_memory.h"
#include "libgob/migration/common_wakes.h"
#include "libgob/migration/inspect.h"
#include "libgob/migration/talk.h"

namespace gob::migration {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kGobd{10};
// One that waits in the kernel for a page may take longer, on a machine that is too busy. But others
// stand still as long as that, and a move that fails leaves all as it was: it may be tried again.
constexpr std::chrono::seconds kStops{5};
constexpr std::size_t kMostCommand = 128;
constexpr std::uint64_t kLockPi2 = 13;  // FUTEX_LOCK_PI2, Linux 5.14
// A sleep in shared memory has no event for others: how often it is looked for, and how often
// whether a word has changed in which somebody sleeps.
constexpr int kLookMs = 50;
constexpr int kWakeMs = 5;
constexpr int kRounds = 20;  // of processes that begin to share while others are being stopped

class CommonKeeper {
 public:
  CommonKeeper(const gobelins::Connection& gob, CommonMapper mapper, UniqueFd link)
      : gob_(gob), mapper_(std::move(mapper)), link_(std::move(link)), wakes_(gob) {}

  Status run() {
    while (link_ || !mapper_.idle()) {
      std::vector<pollfd> waiting{{link_.get(), POLLIN, 0},
                                  {mapper_.gobd(), POLLRDHUP, 0},
                                  {mapper_.news(), POLLIN, 0},
                                  {mapper_.lost(), POLLIN, 0}};
      for (const int end : mapper_.ends()) waiting.push_back({end, POLLIN, 0});
      const int pause = mapper_.idle() ? -1 : some_sleep_ ? kWakeMs : kLookMs;
      const int ready = ::poll(waiting.data(), waiting.size(), pause);
      if (ready < 0 && errno == EINTR) continue;
      if (ready < 0) return system_error("waiting for the processes that have shared memory");
      if (waiting[1].revents != 0)
        return make_error(ErrorCode::kUnavailable,
                          "gobd has ended, and with it the shared memory of its processes");
      if (waiting[2].revents != 0) mapper_.hear();
      mapper_.look();
      if (waiting[0].revents != 0) obey();
      if (Clock::now() >= next_look_) look_for_sleepers();
    }
    bool left = true;
    for (Made& made : made_) left = made.container.leave().ok() && left;
    for (auto& [name, container] : joined_) left = container.leave().ok() && left;
    if (left) mapper_.done();  // else the guard tries again
    return {};
  }

 private:
  struct Made {
    std::pair<dev_t, std::uint64_t> key;  // of the segment: device and inode
    UniqueFd file;
    CommonContainer container;
  };

  void look_for_sleepers() {
    some_sleep_ = false;
    for (const auto& [pid, held] : mapper_.held())
      some_sleep_ = wakes_.look(pid, held.areas) || some_sleep_;
    next_look_ = Clock::now() + std::chrono::milliseconds(some_sleep_ ? kWakeMs : kLookMs);
  }

  void obey() {
    char bytes[kMostCommand];
    const ssize_t got = ::recv(link_.get(), bytes, sizeof bytes, 0);
    if (got <= 0) {
      link_.reset();
      return;
    }
    std::istringstream words(std::string(bytes, static_cast<std::size_t>(got)));
    std::string number, command;
    pid_t root = 0;
    words >> number >> command >> root;
    const auto done = command == "prepare" ? prepare(root)
                      : command == "share" ? share(root)
                                           : join(root);
    const std::string reply =
        number + (done ? kKeeperDone + *done : kKeeperRefused + done.error().message());
    // Whoever asked may have ended.
    const auto answer = [this, reply] {
      static_cast<void>(!::send(link_.get(), reply.data(), reply.size(), MSG_NOSIGNAL));
    };
    if (losers_.empty()) return answer();
    mapper_.lose(std::exchange(losers_, {}), answer);
  }

  // The container of a segment, which is made if there is none.
  Result<Made*> made(const CommonSegment& segment) {
    const std::pair key(segment.device, segment.inode);
    for (Made& each : made_)
      if (each.key == key) return &each;
    auto file = open_common(segment);
    if (!file) return file.error();
    std::random_device random;
    const std::string name = kCommonName + gob_.node_name(gob_.node_id()) + "." +
                             std::to_string((std::uint64_t{random()} << 32) | random());
    if (Status told = mapper_.uses(name, CommonContainer::kMaker); !told) return told.error();
    auto container = CommonContainer::create(gob_, name, segment.bytes);
    if (!container) return container.error();
    return &made_.emplace_back(Made{key, std::move(*file), std::move(*container)});
  }

  static Status refuse(const Common& common) {
    if (common.obstacles.empty()) return {};
    return make_error(ErrorCode::kUnavailable, common.obstacles.front());
  }

  Result<std::string> prepare(pid_t root) {
    const Common common = common_memory(tree_of(root));
    if (Status fine = refuse(common); !fine) return fine.error();
    for (const CommonSegment& segment : common.segments) {
      const auto found = made(segment);
      if (!found) return found.error();
      if (const auto copied = (*found)->container.copy((*found)->file.get()); !copied)
        return copied.error();
      for (const CommonSegment::User& user : segment.staying) seen_.insert(user.pid);
    }
    return std::string();
  }

  // The same memory, for writing.
  static Result<UniqueFd> open_again(int file) {
    UniqueFd again(::open(("/proc/self/fd/" + std::to_string(file)).c_str(), O_RDWR | O_CLOEXEC));
    if (!again) return system_error("opening shared memory for writing");
    return again;
  }

  using Visits = std::map<pid_t, Visit>;

  // Stops what stays, until nobody who runs can touch the memory. Those that were known before come
  // first: it takes long to look at all processes.
  Result<Common> stop_all(pid_t root, Visits& staying) {
    std::set<pid_t> pids = std::exchange(seen_, {});
    for (int round = 0; round < kRounds; ++round) {
      for (const pid_t pid : pids) {
        auto visit = Visit::begin(pid, kStops);
        if (!visit && visit.error().code == ErrorCode::kLost) continue;
        if (!visit) return visit.error();
        staying.emplace(pid, std::move(*visit));
      }
      pids.clear();
      Common common = common_memory(tree_of(root));
      if (Status fine = refuse(common); !fine) return fine.error();
      for (const CommonSegment& segment : common.segments)
        for (const CommonSegment::User& user : segment.staying)
          if (!staying.contains(user.pid)) pids.insert(user.pid);
      if (pids.empty()) return common;
    }
    return make_error(ErrorCode::kUnavailable,
                      "ever more processes begin to use memory that the process shares; move it "
                      "when they do not");
  }

  // Locks that the kernel hands on by itself (PI) would never come to a thread on another node.
  static Status look_for_waiting(const CommonSegment::User& user, const Visit& visit) {
    for (const Injector::Waiting& each : visit.waiting()) {
      const std::uint64_t what = each.arguments[1] & static_cast<std::uint64_t>(FUTEX_CMD_MASK);
      // Others wait for nothing, or are woken.
      if (each.number != SYS_futex || (each.arguments[1] & FUTEX_PRIVATE_FLAG) != 0 ||
          (what != FUTEX_LOCK_PI && what != kLockPi2 && what != FUTEX_WAIT_REQUEUE_PI))
        continue;
      for (const SharedArea& area : user.areas)
        if (each.arguments[0] - area.address < area.bytes)
          return make_error(
              ErrorCode::kUnavailable,
              "thread " + std::to_string(each.thread) + " of process " + std::to_string(user.pid) +
                  " waits for a lock with priority inheritance in shared memory, which only "
                  "processes of one node can share");
    }
    return {};
  }

  struct Step {
    Visit* visit;
    CommonMapper::Plan plan;
    int old;  // a number there of what lies in the place
  };

  Result<std::string> share(pid_t root) {
    const std::vector<pid_t> moving = tree_of(root);
    Visits staying, going;
    const auto begin = Clock::now();
    auto common = stop_all(root, staying);
    if (!common) return common.error();
    std::uint64_t bytes = 0;
    for (const CommonSegment& segment : common->segments) {
      const auto found = made(segment);
      if (!found) return found.error();
      const auto copied = (*found)->container.copy((*found)->file.get());
      if (!copied) return copied.error();
      bytes += *copied;
      (*found)->container.copied();
    }
    for (const pid_t pid : moving) {
      auto visit = Visit::begin(pid, kStops);
      if (!visit && visit.error().code == ErrorCode::kLost) continue;
      if (!visit) return visit.error();
      going.emplace(pid, std::move(*visit));
    }
    // All that may fail, before anything is changed.
    std::vector<Step> steps;
    const auto prepared = [&]() -> Status {
      for (const CommonSegment& segment : common->segments) {
        Made* const made_of = *made(segment);
        for (const CommonSegment::User& user : segment.moving)
          if (const auto visit = going.find(user.pid); visit != going.end())
            if (Status fine = look_for_waiting(user, visit->second); !fine) return fine;
        for (const CommonSegment::User& user : segment.staying) {
          const auto visit = staying.find(user.pid);
          if (visit == staying.end()) continue;  // it has ended
          if (Status fine = look_for_waiting(user, visit->second); !fine) return fine;
          const auto writable = open_again(made_of->file.get());
          if (!writable) return writable.error();
          for (const SharedArea& area : user.areas) {
            const auto old = visit->second.give({writable->get()});
            if (!old) return old.error();
            auto plan = mapper_.plan(visit->second, made_of->container.name(), area);
            if (!plan) return plan.error();
            steps.push_back({&visit->second, std::move(*plan), old->front()});
          }
        }
      }
      return {};
    }();
    Status done = prepared;
    std::size_t taken = 0;
    while (done && taken < steps.size()) {
      Step& step = steps[taken++];
      const SharedArea area = step.plan.area;
      const std::uint64_t mapping = step.plan.mapping;
      done = mapper_.map(*step.visit, std::move(step.plan));
      step.plan.area = area;
      step.plan.mapping = mapping;
    }
    std::uint64_t places = 0;
    if (done) {
      auto put = put_places(*common, going);
      if (put)
        places = *put;
      else
        done = put.error();
    }
    if (!done) {
      for (std::size_t i = 0; i < steps.size(); ++i) {
        mapper_.forget(steps[i].plan.mapping);
        if (i < taken)
          static_cast<void>(steps[i].visit->map(steps[i].plan.area, steps[i].old).ok());
      }
      return done.error();
    }
    for (const CommonSegment& segment : common->segments)
      if (segment.system_v) end_segment(static_cast<int>(segment.inode));
    for (Made& each : made_) each.file.reset();
    staying.clear();
    const double stopped = std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
    return std::to_string(places) + " " + std::to_string(bytes) + " " + std::to_string(stopped);
  }

  // Who comes later shall find nothing, rather than what it was; nor make a new segment by the same
  // key, which would be empty, and shared with nobody. One byte holds the key: who asks for more
  // gets EINVAL, who creates exclusively EEXIST, and who is not root EACCES.
  void end_segment(int segment) {
    shmid_ds info{};
    const bool known = ::shmctl(segment, IPC_STAT, &info) == 0;
    ::shmctl(segment, IPC_RMID, nullptr);
    if (!known || info.shm_perm.__key == IPC_PRIVATE) return;
    const int held = ::shmget(info.shm_perm.__key, 1, IPC_CREAT | IPC_EXCL);
    if (held < 0) return;  // somebody was faster
    const Status kept = mapper_.hold_key(held);
    if (kept) return;
    // Nobody would ever remove it.
    ::shmctl(held, IPC_RMID, nullptr);
    spdlog::error("key {:#x} of shared memory is free for others: {}", info.shm_perm.__key,
                  kept.error().message());
  }

  // In the processes that move, for memory that becomes a container and for containers of earlier
  // moves. On an error the memory is where it was; places of earlier containers are to be joined.
  Result<std::uint64_t> put_places(const Common& common, Visits& going) {
    struct Put {
      Visit* visit;
      SharedArea area;
      int place;
      int old;  // a number there of what lies in the place, or -1
    };
    std::vector<Put> all;
    std::map<std::string, UniqueFd> files;
    const auto add = [&](Visit& visit, const std::string& container, const SharedArea& area,
                         int file_now) -> Status {
      UniqueFd& file = files[container];
      if (!file) {
        file.reset(::memfd_create((kPlaceName + container).c_str(), MFD_CLOEXEC));
        if (!file) return system_error("making a file for the place of a container");
      }
      const auto size = static_cast<off_t>(area.offset + area.bytes);
      if (::lseek(file.get(), 0, SEEK_END) < size && ::ftruncate(file.get(), size) != 0)
        return system_error("making a file for the place of a container");
      const auto there =
          file_now < 0 ? visit.give({file.get()}) : visit.give({file.get(), file_now});
      if (!there) return there.error();
      all.push_back({&visit, area, there->front(), file_now < 0 ? -1 : there->back()});
      return {};
    };
    for (const CommonSegment& segment : common.segments) {
      const Made& made_of = **made(segment);
      const auto writable = open_again(made_of.file.get());
      if (!writable) return writable.error();
      for (const CommonSegment::User& user : segment.moving)
        if (const auto visit = going.find(user.pid); visit != going.end())
          for (const SharedArea& area : user.areas)
            if (Status added = add(visit->second, made_of.container.name(), area, writable->get());
                !added)
              return added.error();
    }
    for (auto& [pid, visit] : going)
      for (const auto& [container, area] : container_areas(pid)) {
        if (Status known = hold(container); !known) return known.error();
        if (Status added = add(visit, container, area, -1); !added) return added.error();
      }
    for (std::size_t i = 0; i < all.size(); ++i) {
      Status mapped = all[i].visit->map(all[i].area, all[i].place);
      if (mapped) continue;
      for (std::size_t j = 0; j <= i; ++j)
        if (all[j].old >= 0) static_cast<void>(all[j].visit->map(all[j].area, all[j].old).ok());
      return mapped.error();
    }
    return all.size();
  }

  // As long as this keeper lives the container does.
  Status hold(const std::string& name) {
    if (joined_.contains(name) ||
        std::ranges::any_of(made_, [&](const Made& made) { return made.container.name() == name; }))
      return {};
    auto container = CommonContainer::open(gob_, name);
    if (!container) return container.error();
    if (Status entered = container->enter(); !entered) return entered;
    if (Status told = mapper_.uses(name, container->keeper()); !told) {
      static_cast<void>(container->leave().ok());
      return told;
    }
    joined_.emplace(name, std::move(*container));
    return {};
  }

  Result<std::string> join(pid_t root) {
    const std::vector<pid_t> pids = tree_of(root);
    std::uint64_t joined = 0;
    const auto done = [&]() -> Status {
      for (const pid_t pid : pids) {
        const std::vector<NamedArea> places = places_of(pid);
        if (places.empty()) continue;
        auto visit = Visit::begin(pid, kStops);
        if (!visit) return visit.error();
        for (const auto& [container, area] : places) {
          if (Status held = hold(container); !held) return held;
          auto plan = mapper_.plan(*visit, container, area);
          if (!plan) return plan.error();
          if (Status mapped = mapper_.map(*visit, std::move(*plan)); !mapped) return mapped;
          ++joined;
        }
      }
      return {};
    }();
    if (done) return std::to_string(joined);
    for (const pid_t pid : pids)
      if (!places_of(pid).empty() || !container_areas(pid).empty()) losers_.push_back(pid);
    return done.error();
  }

  gobelins::Connection gob_;
  CommonMapper mapper_;
  UniqueFd link_;
  CommonWakes wakes_;
  bool some_sleep_ = false;
  Clock::time_point next_look_{};
  std::list<Made> made_;
  std::set<pid_t> seen_;       // that stay, when the memory was copied first
  std::vector<pid_t> losers_;  // of a command that failed: the answer comes when they have lost it
  std::map<std::string, CommonContainer> joined_;
};

}  // namespace

Status keep_common(const std::string& socket, int link) {
  ::prctl(PR_SET_NAME, kKeeperName);
  ::signal(SIGPIPE, SIG_IGN);
  ::setenv("GOB_QUIET", "1", 1);
  // Each child of a program with such memory costs descriptors, here and in the guard.
  raise_file_limit();
  UniqueFd commands(link);
  ::fcntl(link, F_SETFD, FD_CLOEXEC);
  auto news = NewsSocket::create();
  if (!news) return news.error();
  auto guard = CommonGuard::start(socket, news->heard.get());
  if (!guard) return guard.error();
  auto gobd = ControlClient::connect(socket, "gobmigrate", kGobd);
  if (!gobd) {
    guard->done();
    return gobd.error();
  }
  auto losses = CommonLosses::create();
  if (!losses) {
    guard->done();
    return losses.error();
  }
  try {
    const gobelins::Connection gob(socket);
    return CommonKeeper(gob,
                        CommonMapper(std::move(*gobd), std::move(*guard), std::move(*news),
                                     std::move(*losses)),
                        std::move(commands))
        .run();
  } catch (const std::system_error& error) {
    return error_of(error, "connecting to gobd at " + socket);
  }
}

}  // namespace gob::migration
