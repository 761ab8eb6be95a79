#include "libgob/migration/held_locks.h"

#include <fcntl.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <tuple>

#include "libgob/base/unique_fd.h"
#include "libgob/file/lock_ioctl.h"
#include "libgob/migration/file_facts.h"
#include "libgob/migration/inspect.h"
#include "libgob/migration/proc.h"

namespace gob::migration {
namespace {

namespace fs = std::filesystem;
using file::HeldRange;
using file::HeldRanges;
using file::LockKind;
using file::LockOffer;

constexpr std::uint64_t kToTheEnd = ~std::uint64_t{0};

std::vector<int> numbers_in(const std::string& folder) {
  std::vector<int> numbers;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
    if (const int number = std::atoi(it->path().filename().c_str());
        number > 0 || it->path().filename() == "0")
      numbers.push_back(number);
  return numbers;
}

// What the kernel says of a descriptor without asking its file system.
struct FdInfo {
  std::uint64_t mount = 0;
  bool locked = false;  // by a lock of this kernel
};
FdInfo info_of(pid_t pid, int fd) {
  FdInfo info;
  std::ifstream file(proc(pid, "fdinfo/" + std::to_string(fd)));
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("lock:")) info.locked = true;
    if (line.starts_with("mnt_id:")) info.mount = std::strtoull(line.c_str() + 7, nullptr, 10);
  }
  return info;
}

bool is_of_gob(const NetworkMounts& mounts, const FdInfo& info) {
  return mounts.server(info.mount).starts_with("fuse.gob ");
}

// A process that is none of `moving` and has the open file, too; 0: there is none.
pid_t other_holder(pid_t pid, int fd, const std::vector<pid_t>& moving) {
  for (const int other : numbers_in("/proc")) {
    if (other <= 0 || other == ::getpid() || std::ranges::count(moving, other) != 0) continue;
    for (const int theirs : numbers_in(proc(other, "fd")))
      if (::syscall(SYS_kcmp, pid, other, KCMP_FILE, fd, theirs) == 0) return other;
  }
  return 0;
}

class Looker {
 public:
  Looker(const std::vector<pid_t>& moving, const std::vector<Cover>& covers,
         const std::string& target)
      : moving_(moving), covers_(covers), target_(target) {}

  void look_at(pid_t pid) {
    const NetworkMounts mounts(proc(pid, "mountinfo"));
    for (const int fd : numbers_in(proc(pid, "fd"))) {
      const FdInfo info = info_of(pid, fd);
      if (is_of_gob(mounts, info))
        of_gob(pid, fd);
      else if (info.locked)
        stays(path_of(pid, fd),
              "the file is in no mount of gob, and a lock of this node's kernel stays with its "
              "process");
    }
  }

  HeldLocks result() {
    for (const auto& [key, path] : unplaced_)
      if (!placed_.contains(key))
        stays(path, "none of the descriptors by which it could be taken is open any more");
    return std::move(held_);
  }

 private:
  // Which lock: its file's home, the file, kind, owner and first byte.
  using Key = std::tuple<std::uint32_t, std::uint64_t, LockKind, std::uint64_t, std::uint64_t>;

  static std::string path_of(pid_t pid, int fd) {
    std::error_code ignored;
    return fs::read_symlink(proc(pid, "fd/" + std::to_string(fd)), ignored).string();
  }

  void stays(const std::string& path, const std::string& why) {
    held_.staying.push_back({path, why});
  }

  void of_gob(pid_t pid, int fd) {
    const UniqueFd own = copy_descriptor(pid, fd);
    if (!own) {
      if (errno != EBADF && errno != ESRCH)  // those: it is gone
        stays(path_of(pid, fd), system_error("what is locked cannot be told").message());
      return;
    }
    auto ranges = std::make_unique<HeldRanges>();
    int got = ::ioctl(own.get(), file::kIoctlHeldRanges, ranges.get());
    const auto records = std::span(ranges->ranges).first(got == 0 ? ranges->count : 0);
    if (std::ranges::any_of(records,
                            [](const HeldRange& r) { return r.kind != LockKind::kFlock; })) {
      // Now the mount learns which of them are the open file's own.
      struct flock any {};
      any.l_type = F_WRLCK;
      static_cast<void>(::fcntl(own.get(), F_OFD_GETLK, &any));
      got = ::ioctl(own.get(), file::kIoctlHeldRanges, ranges.get());
    }
    if (got != 0) {
      const int error = errno;
      struct stat status {};
      const bool regular = ::fstat(own.get(), &status) != 0 || S_ISREG(status.st_mode);
      if (error == EBADF || (error == ENOTTY && !regular)) return;  // nothing that can be locked
      errno = error;
      return stays(path_of(pid, fd), system_error("what is locked cannot be told").message());
    }
    for (std::uint32_t i = 0; i < ranges->count; ++i)
      lock(pid, fd, own, *ranges, ranges->ranges[i]);
  }

  void lock(pid_t pid, int fd, const UniqueFd& own, const HeldRanges& file,
            const HeldRange& range) {
    const Key key{file.home, file.file, range.kind, range.owner, range.first};
    const auto taker = static_cast<pid_t>(range.pid);
    if (range.kind == LockKind::kRecord && taker != pid) {
      // Another process's, which has the open file, too. One of those that move is looked at
      // itself.
      if (std::ranges::count(moving_, taker) != 0 || fs::exists(proc(taker, "stat"))) return;
      return stays(path_of(pid, fd), "process " + std::to_string(taker) +
                                         ", which took it, has ended, and another has its "
                                         "descriptors (clone(2) with CLONE_FILES)");
    }
    if (placed_.contains(key)) return;
    const std::string path = path_of(pid, fd);
    const int mode = ::fcntl(own.get(), F_GETFL) & O_ACCMODE;
    if (range.kind == LockKind::kRecord && mode == (range.type == F_WRLCK ? O_RDONLY : O_WRONLY)) {
      unplaced_.emplace_back(key, path);
      return;
    }
    placed_.insert(key);
    if (const auto why = why_not(pid, fd, path, range.kind)) return stays(path, *why);
    HeldLock& going = held_.going.emplace_back();
    going.set_pid(pid);
    going.set_fd(fd);
    going.set_kind(range.kind == LockKind::kFlock    ? HeldLock::FLOCK
                   : range.kind == LockKind::kRecord ? HeldLock::RECORD
                                                     : HeldLock::OPEN_FILE);
    going.set_type(range.type);
    going.set_first(range.first);
    going.set_last(range.last);
    going.set_owner(range.owner);
    going.set_path(path);
  }

  [[nodiscard]] std::optional<std::string> why_not(pid_t pid, int fd, const std::string& path,
                                                   LockKind kind) const {
    if (path.ends_with(" (deleted)")) return "the file was removed, and goes along as a copy";
    // The innermost folder counts.
    const Cover* inner = nullptr;
    for (const Cover& cover : covers_)
      if (is_below(path, cover.path()) &&
          (inner == nullptr || cover.path().size() > inner->path().size()))
        inner = &cover;
    if (inner != nullptr && inner->home() == target_)
      return "the file is one of " + target_ + "'s own folder " + inner->path() +
             ", where the process would have it without gob's mount";
    if (kind == LockKind::kRecord) return std::nullopt;
    if (const pid_t other = other_holder(pid, fd, moving_); other != 0)
      return "process " + std::to_string(other) +
             ", which stays, has the open file, too, and so the lock (move a common parent, or end "
             "it)";
    return std::nullopt;
  }

  const std::vector<pid_t>& moving_;
  const std::vector<Cover>& covers_;
  const std::string& target_;
  HeldLocks held_;
  std::set<Key> placed_;
  std::vector<std::pair<Key, std::string>> unplaced_;
};

void take_offers_back(pid_t root) {
  for (const pid_t pid : tree_of(root)) {
    const NetworkMounts mounts(proc(pid, "mountinfo"));
    for (const int fd : numbers_in(proc(pid, "fd"))) {
      if (!is_of_gob(mounts, info_of(pid, fd))) continue;
      // Of one that fails nothing more is known; its home will hear of the target's end.
      if (const UniqueFd own = copy_descriptor(pid, fd); own)
        ::ioctl(own.get(), file::kIoctlKeepLocks);
    }
  }
}

}  // namespace

HeldLocks held_locks(const std::vector<pid_t>& processes, const std::vector<Cover>& covers,
                     const std::string& target) {
  Looker looker(processes, covers, target);
  for (const pid_t pid : processes) looker.look_at(pid);
  return looker.result();
}

Status offer_locks(const std::vector<HeldLock>& locks, unsigned to) {
  for (const HeldLock& lock : locks) {
    const bool flock = lock.kind() == HeldLock::FLOCK;
    const UniqueFd own = copy_descriptor(lock.pid(), lock.fd());
    const LockOffer offer{lock.owner(), to, flock ? 1U : 0U};
    if (!own || ::ioctl(own.get(), file::kIoctlOfferLocks, &offer) != 0)
      return system_error("offering the target the lock of process " + std::to_string(lock.pid()) +
                          ", " + describe(lock) + " (if its home is busy, try again)");
  }
  return {};
}

void keep_locks(pid_t root, std::chrono::milliseconds limit) {
  const pid_t child = ::fork();  // a mount may keep it waiting
  if (child == 0) {
    take_offers_back(root);
    ::_exit(0);
  }
  if (child < 0) return;
  const UniqueFd fd = open_process(child);
  pollfd ended{fd.get(), POLLIN, 0};
  const bool in_time = ::poll(&ended, 1, static_cast<int>(limit.count())) == 1;
  if (!in_time) ::kill(child, SIGKILL);
  // A request that gobd has read keeps it until it is answered, killed or not.
  ::waitpid(child, nullptr, in_time ? 0 : WNOHANG);
}

std::string describe(const HeldLock& lock) {
  const std::string mode = lock.type() == F_WRLCK ? "" : ", for reading";
  if (lock.kind() == HeldLock::FLOCK) return "flock on " + lock.path() + mode;
  const std::string end = lock.last() == kToTheEnd ? "the end" : std::to_string(lock.last());
  return "bytes " + std::to_string(lock.first()) + " to " + end + " of " + lock.path() + mode +
         (lock.kind() == HeldLock::OPEN_FILE ? ", by the open file" : "");
}

}  // namespace gob::migration
