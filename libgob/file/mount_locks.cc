// Record locks (fcntl) and file locks (flock). They are held at the file's home.
#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <limits>
#include <memory>

#include "libgob/file/mount.h"

namespace gob::file {

namespace {

constexpr std::uint64_t kToTheEnd = ~std::uint64_t{0};

peer::FileLock lock_of(fuse_req_t req, const fuse_file_info& info, const struct flock& lock) {
  peer::FileLock out;
  out.set_owner(info.lock_owner);
  out.set_type(static_cast<std::uint32_t>(lock.l_type));
  out.set_first(static_cast<std::uint64_t>(lock.l_start));
  out.set_last(lock.l_len == 0 ? kToTheEnd
                               : static_cast<std::uint64_t>(lock.l_start + lock.l_len - 1));
  // The process; the request's context has the thread.
  out.set_pid(static_cast<std::uint32_t>(lock.l_pid > 0 ? lock.l_pid : fuse_req_ctx(req)->pid));
  return out;
}

// A request that waits for a lock, and its program's signals. Shared by the answer and the
// interruption, whichever comes first.
struct Interruptible {
  explicit Interruptible(FileClient& waited) : client(waited) {}
  FileClient& client;
  std::mutex mutex;
  std::uint64_t id = 0;  // guarded by mutex; 0: not known yet
  bool interrupted = false;
};

void on_interrupt(fuse_req_t, void* data) {
  auto& waiting = *static_cast<Interruptible*>(data);
  std::uint64_t id = 0;
  {
    const std::lock_guard guard(waiting.mutex);
    waiting.interrupted = true;
    id = waiting.id;
  }
  if (id != 0) waiting.client.cancel(id);
}

}  // namespace

void Mount::getlk(fuse_req_t req, fuse_ino_t inode, fuse_file_info* info, struct flock* lock) {
  Request request;
  *request.mutable_lock() = lock_of(req, *info, *lock);
  static_cast<void>(inode);
  of(req).lock_owners_.note_asked(&opened(*info), fuse_req_ctx(req)->pid, info->lock_owner);
  of(req).ask_opened(
      req, opened(*info), FileOp::kGetLock, std::move(request), [req](const Reply& reply) {
        if (reply.error() != 0) {
          sent(fuse_reply_err(req, static_cast<int>(reply.error())));
          return;
        }
        struct flock found {};
        found.l_type = static_cast<short>(reply.lock().type());
        found.l_whence = SEEK_SET;
        found.l_start = static_cast<off_t>(reply.lock().first());
        found.l_len = reply.lock().last() == kToTheEnd
                          ? 0
                          : static_cast<off_t>(reply.lock().last() - reply.lock().first() + 1);
        found.l_pid = static_cast<pid_t>(reply.lock().pid());
        sent(fuse_reply_lock(req, &found));
      });
}

void Mount::setlk(fuse_req_t req, fuse_ino_t inode, fuse_file_info* info, struct flock* lock,
                  int wait) {
  peer::FileLock wanted = lock_of(req, *info, *lock);
  wanted.set_wait(wait != 0);
  if (lock->l_type != F_UNLCK) of(req).lock_owners_.note(&opened(*info), info->lock_owner);
  of(req).set_lock(req, inode, opened(*info), std::move(wanted));
}

void Mount::flock(fuse_req_t req, fuse_ino_t inode, fuse_file_info* info, int operation) {
  peer::FileLock wanted;
  wanted.set_owner(info->lock_owner);
  wanted.set_flock(true);
  switch (operation & ~LOCK_NB) {
    case LOCK_SH:
      wanted.set_type(F_RDLCK);
      break;
    case LOCK_EX:
      wanted.set_type(F_WRLCK);
      break;
    case LOCK_UN:
      wanted.set_type(F_UNLCK);
      break;
    default:
      sent(fuse_reply_err(req, EINVAL));
      return;
  }
  if (wanted.type() != F_UNLCK) of(req).lock_owners_.note_flock(&opened(*info), info->lock_owner);
  wanted.set_last(kToTheEnd);
  wanted.set_wait((operation & LOCK_NB) == 0);
  wanted.set_pid(static_cast<std::uint32_t>(fuse_req_ctx(req)->pid));
  of(req).set_lock(req, inode, opened(*info), std::move(wanted));
}

void Mount::set_lock(fuse_req_t req, fuse_ino_t inode, const Opened& file, peer::FileLock lock) {
  if (lock.type() != F_UNLCK) inodes_.note_lock(inode, lock.flock());
  if (const auto first = lock_owners_.joining(&file); first && lock.type() != F_UNLCK) {
    lock.mutable_joins()->set_node(first->first.value());
    lock.mutable_joins()->set_owner(first->second);
    lock.set_wait(false);
  }
  const bool waits = lock.wait() && lock.type() != F_UNLCK;
  lock.set_wait(waits);
  Request request;
  request.set_op(static_cast<std::uint32_t>(FileOp::kSetLock));
  request.set_incarnation(file.remote.incarnation);
  request.set_file(file.remote.file);
  *request.mutable_lock() = std::move(lock);
  if (!waits) {
    client_.call(file.remote.home, std::move(request), just_error(req));
    return;
  }
  const auto waiting = std::make_shared<Interruptible>(client_);
  fuse_req_interrupt_func(req, on_interrupt, waiting.get());
  const std::uint64_t id =
      client_.call(file.remote.home, std::move(request), [req, waiting](const Reply& reply) {
        fuse_req_interrupt_func(req, nullptr, nullptr);  // waits for one that runs
        sent(fuse_reply_err(req, static_cast<int>(reply.error())));
      });
  bool interrupted = false;
  {
    const std::lock_guard guard(waiting->mutex);
    waiting->id = id;
    interrupted = waiting->interrupted;
  }
  if (interrupted && id != 0) client_.cancel(id);
}

void Mount::drop_locks(fuse_ino_t inode, const Opened& file, std::uint64_t owner, bool flock,
                       Done done) {
  if (!inodes_.may_have_lock(inode, flock)) return done({});
  Request request;
  request.set_op(static_cast<std::uint32_t>(FileOp::kDropLocks));
  request.set_incarnation(file.remote.incarnation);
  request.set_file(file.remote.file);
  request.mutable_lock()->set_owner(owner);
  request.mutable_lock()->set_flock(flock);
  request.mutable_lock()->set_type(F_UNLCK);
  request.mutable_lock()->set_last(kToTheEnd);
  client_.call(file.remote.home, std::move(request), std::move(done));
}

}  // namespace gob::file
