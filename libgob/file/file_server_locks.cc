// Locks across nodes. Whoever must wait is answered later, by whoever lets go.
#include <fcntl.h>

#include <cerrno>

#include "libgob/file/file_server.h"

namespace gob::file {

namespace {

constexpr std::size_t kMaxCancelled = 1024;

LockType type_of(std::uint32_t type) {
  return type == F_WRLCK ? LockType::kWrite : type == F_RDLCK ? LockType::kRead : LockType::kUnlock;
}

std::uint32_t type_of(LockType type) {
  return type == LockType::kWrite ? F_WRLCK : type == LockType::kRead ? F_RDLCK : F_UNLCK;
}

}  // namespace

// A process takes its locks along. Gives 0 or an errno.
int FileServer::hand_over(const Life& from, const Request& request, LockTable& locks,
                          Reply& reply) {
  const peer::FileLock& lock = request.lock();
  const NodeId node{static_cast<NodeId::rep>(request.node())};
  switch (op_of(request)) {
    case FileOp::kListLocks:
      for (const peer::FileLock& asked : request.locks()) {
        for (const LockRange& held : locks.held_by({from.node, asked.owner(), asked.flock()})) {
          if (static_cast<std::size_t>(reply.locks_size()) == kMaxLocks) return E2BIG;
          peer::FileLock& out = *reply.add_locks();
          out.set_owner(asked.owner());
          out.set_flock(asked.flock());
          out.set_type(type_of(held.type));
          out.set_first(held.first);
          out.set_last(held.last);
          out.set_pid(held.pid);
        }
      }
      return 0;
    case FileOp::kOfferLocks:
      return locks.offer({from.node, lock.owner(), lock.flock()}, node) ? 0 : ENOLCK;
    case FileOp::kKeepLocks:
      for (const peer::FileLock& kept : request.locks())
        locks.keep({from.node, kept.owner(), kept.flock()});
      return 0;
    case FileOp::kLocksMoved:
      locks.moved({node, lock.owner(), lock.flock()}, from.node);
      return 0;
    default:
      return ENOSYS;
  }
}

// True if the request was one about locks; it is answered, or waits.
bool FileServer::locks(const Life& from, const Request& request, const Answer& answer) {
  const FileOp op = op_of(request);
  const bool hands_over = op == FileOp::kListLocks || op == FileOp::kOfferLocks ||
                          op == FileOp::kKeepLocks || op == FileOp::kLocksMoved;
  if (op != FileOp::kGetLock && op != FileOp::kSetLock && op != FileOp::kDropLocks && !hands_over)
    return false;
  Reply reply;
  reply.set_id(request.id());
  reply.set_incarnation(incarnation_);
  const auto file = request.incarnation() == incarnation_ ? table_.find(request.file()) : nullptr;
  if (file == nullptr) {
    reply.set_error(ESTALE);
    answer(std::move(reply));
    return true;
  }
  const peer::FileLock& lock = request.lock();
  const LockOwner owner{from.node, lock.owner(), lock.flock()};
  const LockRange range{lock.first(), lock.last(), type_of(lock.type()), lock.pid()};
  {
    const std::lock_guard guard(file->locks_mutex);
    if (from.over) {
      reply.set_error(ESTALE);
    } else if (hands_over) {
      reply.set_error(static_cast<std::uint32_t>(hand_over(from, request, file->locks, reply)));
    } else if (op == FileOp::kDropLocks) {
      file->locks.drop(owner);
    } else if (op == FileOp::kGetLock) {
      const auto other = file->locks.conflict(owner, range);
      reply.mutable_lock()->set_type(other ? type_of(other->type) : F_UNLCK);
      if (other) {
        reply.mutable_lock()->set_first(other->first);
        reply.mutable_lock()->set_last(other->last);
        reply.mutable_lock()->set_pid(other->pid);
      }
    } else if (lock.has_joins()) {
      const LockOwner first{NodeId{static_cast<NodeId::rep>(lock.joins().node())},
                            lock.joins().owner(), lock.flock()};
      if (!file->locks.join(owner, range, first)) reply.set_error(EAGAIN);
    } else if (!file->locks.set(owner, range)) {
      const std::lock_guard waiting(mutex_);
      const bool cancelled = std::erase(cancelled_, std::pair{from.node, request.id()}) != 0;
      if (lock.wait() && !cancelled && !from.over) {
        waiting_[{from.node, request.id()}] = {file, answer};
        file->locks.wait({owner, range, request.id()});
        return true;
      }
      reply.set_error(cancelled ? EINTR : EAGAIN);
    }
  }
  answer(std::move(reply));
  grant(*file);
  return true;
}

// Answers those that can have their locks now.
void FileServer::grant(File& file) {
  for (;;) {
    Answer answer;
    Reply reply;
    {
      const std::lock_guard guard(file.locks_mutex);
      const auto granted = file.locks.take_grantable();
      if (!granted) return;
      const std::lock_guard waiting(mutex_);
      const auto found = waiting_.find({granted->owner.node, granted->request});
      if (found == waiting_.end()) continue;
      answer = std::move(found->second.answer);
      waiting_.erase(found);
      reply.set_id(granted->request);
      reply.set_incarnation(incarnation_);
    }
    answer(std::move(reply));
  }
}

void FileServer::cancel(NodeId from, std::uint64_t request) {
  std::shared_ptr<File> file;
  Answer answer;
  {
    const std::lock_guard waiting(mutex_);
    const auto found = waiting_.find({from, request});
    if (found == waiting_.end()) {
      // Answered already, or still on its way to a thread: then it is not to begin to wait.
      cancelled_.emplace_back(from, request);
      if (cancelled_.size() > kMaxCancelled) cancelled_.pop_front();
      return;
    }
    file = found->second.file;
  }
  {
    const std::lock_guard guard(file->locks_mutex);
    if (!file->locks.cancel(from, request)) return;  // granted meanwhile
    const std::lock_guard waiting(mutex_);
    const auto found = waiting_.find({from, request});
    if (found == waiting_.end()) return;
    answer = std::move(found->second.answer);
    waiting_.erase(found);
  }
  Reply reply;
  reply.set_id(request);
  reply.set_incarnation(incarnation_);
  reply.set_error(EINTR);
  answer(std::move(reply));
  grant(*file);  // who waited behind it may go on
}

void FileServer::drop_node(NodeId node) {
  {
    const std::lock_guard waiting(mutex_);
    // From now on what it asked for earlier is refused; what was given is found below.
    if (const auto life = lives_.extract(node)) life.mapped()->over = true;
    std::erase_if(waiting_, [&](const auto& item) { return item.first.first == node; });
    std::erase_if(cancelled_, [&](const auto& item) { return item.first == node; });
  }
  for (const auto& file : table_.all()) let_go_changes(*file, node);
  FileTable::Garbage garbage;
  for (const auto& file : table_.drop_node(node, garbage)) grant(*file);
  pool_.resume([gone = std::move(garbage)] {});
}

}  // namespace gob::file
