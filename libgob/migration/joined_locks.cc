#include "libgob/migration/joined_locks.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <unistd.h>

#include <map>

#include "libgob/migration/held_locks.h"
#include "libgob/migration/inspect.h"
#include "libgob/migration/proc.h"
#include "libgob/migration/visit.h"

namespace gob::migration {
namespace {

constexpr std::chrono::seconds kStops{5};

struct flock record_of(const HeldLock& lock) {
  struct flock record {};
  record.l_type = static_cast<short>(lock.type());
  record.l_whence = SEEK_SET;
  record.l_start = static_cast<off_t>(lock.first());
  record.l_len =
      lock.last() == ~std::uint64_t{0} ? 0 : static_cast<off_t>(lock.last() - lock.first() + 1);
  return record;
}

// A record lock belongs to the process that takes it; the others to the open file, whoever does.
Status take(const HeldLock& lock, pid_t pid, const UniqueFd& file, Visits& visits) {
  struct flock record = record_of(lock);
  const std::string what = "taking over a lock, " + describe(lock);
  if (lock.kind() == HeldLock::FLOCK)
    return ::flock(file.get(), (lock.type() == F_WRLCK ? LOCK_EX : LOCK_SH) | LOCK_NB) == 0
               ? Status()
               : system_error(what);
  if (lock.kind() == HeldLock::OPEN_FILE)
    return ::fcntl(file.get(), F_OFD_SETLK, &record) == 0 ? Status() : system_error(what);
  const auto visit = visits.to(pid);
  return visit ? (*visit)->lock(what, lock.fd(), record) : Status(visit.error());
}

}  // namespace

Result<JoinedLocks> JoinedLocks::join(pid_t root, const Images& images) {
  JoinedLocks joined;
  if (images.locks().empty()) return joined;
  const std::map<pid_t, pid_t> outside = outside_numbers(root);
  Visits visits(kStops);
  for (const HeldLock& lock : images.locks()) {
    const auto pid = outside.find(lock.pid());
    if (pid == outside.end())
      return make_error(ErrorCode::kProtocol, "a lock of process " + std::to_string(lock.pid()) +
                                                  ", which is not in the images");
    UniqueFd file = copy_descriptor(pid->second, lock.fd());
    file::LockOffer from{lock.owner(), images.node(), lock.kind() == HeldLock::FLOCK ? 1U : 0U};
    if (!file || ::ioctl(file.get(), file::kIoctlJoinLocks, &from) != 0)
      return system_error("reaching the file of a lock, " + describe(lock));
    const Status taken = take(lock, pid->second, file, visits);
    const file::LockOffer none;
    ::ioctl(file.get(), file::kIoctlJoinLocks, &none);
    if (!taken) return taken.error();
    joined.all_.push_back({std::move(file), from});
  }
  return joined;
}

void JoinedLocks::moved() {
  for (const Joined& each : all_)
    if (::ioctl(each.file.get(), file::kIoctlLocksMoved, &each.from) != 0)
      spdlog::warn(
          "a lock is the migrant's alone only when its process at the source has ended: {}",
          system_error("telling the file's home").message());
  all_.clear();  // else the open files would outlive the migrant
}

}  // namespace gob::migration
