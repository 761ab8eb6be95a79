// Locks of a process that moves to another node: what lock_ioctl.h says.
#include <fcntl.h>

#include <cerrno>
#include <cstring>

#include "libgob/file/lock_ioctl.h"
#include "libgob/file/mount.h"

namespace gob::file {

namespace {

void add_owner(peer::FileRequest& request, std::uint64_t owner, bool flock) {
  peer::FileLock& lock = *request.add_locks();
  lock.set_owner(owner);
  lock.set_flock(flock);
}

// What the home says is held, with what the mount knows of the owners.
int fill(const peer::FileReply& reply, const LockOwners::Known& known, HeldRanges& out) {
  if (reply.error() != 0) return static_cast<int>(reply.error());
  if (static_cast<std::size_t>(reply.locks_size()) > kMostHeldRanges) return E2BIG;
  for (const peer::FileLock& lock : reply.locks()) {
    HeldRange& range = out.ranges[out.count++];
    range.owner = lock.owner();
    range.first = lock.first();
    range.last = lock.last();
    range.type = lock.type();
    range.pid = lock.pid();
    range.kind = lock.flock()                  ? LockKind::kFlock
                 : lock.owner() == known.asked ? LockKind::kOpenFile
                                               : LockKind::kRecord;
  }
  return 0;
}

}  // namespace

// False: it is another command.
bool Mount::lock_ioctl(fuse_req_t req, unsigned command, const Opened& file, const void* in,
                       size_t in_bytes, size_t out_bytes) {
  const bool known = command == kIoctlHeldRanges || command == kIoctlOfferLocks ||
                     command == kIoctlKeepLocks || command == kIoctlJoinLocks ||
                     command == kIoctlLocksMoved;
  if (!known) return false;
  LockOffer offer;
  const bool takes =
      command == kIoctlOfferLocks || command == kIoctlJoinLocks || command == kIoctlLocksMoved;
  if (fuse_req_ctx(req)->uid != 0) {
    sent(fuse_reply_err(req, EPERM));  // else anybody could take locks away from others
    return true;
  }
  if (in_bytes != (takes ? sizeof offer : 0) ||
      out_bytes != (command == kIoctlHeldRanges ? sizeof(HeldRanges) : 0)) {
    sent(fuse_reply_err(req, EINVAL));
    return true;
  }
  if (takes) std::memcpy(&offer, in, sizeof offer);
  if (command == kIoctlHeldRanges)
    list_locks(req, file);
  else if (command == kIoctlKeepLocks)
    keep_locks(req, file);
  else if (command == kIoctlJoinLocks)
    join_locks(req, file, offer);
  else
    tell_home(req, file, command == kIoctlOfferLocks ? FileOp::kOfferLocks : FileOp::kLocksMoved,
              offer);
  return true;
}

void Mount::list_locks(fuse_req_t req, const Opened& file) {
  LockOwners::Known known = lock_owners_.known(&file, fuse_req_ctx(req)->pid);
  HeldRanges none;
  none.file = file.remote.file;
  none.home = file.remote.home.value();
  if (known.records.empty() && !known.flock) {
    sent(fuse_reply_ioctl(req, 0, &none, sizeof none));
    return;
  }
  Request request;
  for (const std::uint64_t owner : known.records) add_owner(request, owner, false);
  if (known.flock) add_owner(request, *known.flock, true);
  if (static_cast<std::size_t>(request.locks_size()) > kMaxLocks) {
    sent(fuse_reply_err(req, E2BIG));
    return;
  }
  ask_opened(req, file, FileOp::kListLocks, std::move(request),
             [req, none, known = std::move(known)](const Reply& reply) {
               HeldRanges held = none;
               if (const int error = fill(reply, known, held); error != 0)
                 sent(fuse_reply_err(req, error));
               else
                 sent(fuse_reply_ioctl(req, 0, &held, sizeof held));
             });
}

void Mount::tell_home(fuse_req_t req, const Opened& file, FileOp op, const LockOffer& offer) {
  Request request;
  request.set_node(offer.node);
  request.mutable_lock()->set_owner(offer.owner);
  request.mutable_lock()->set_flock(offer.flock != 0);
  request.mutable_lock()->set_type(F_UNLCK);
  // Whatever comes of it, an offer that may have arrived is to be taken back.
  if (op == FileOp::kOfferLocks) lock_owners_.note_offer(&file, {offer.owner, offer.flock != 0});
  ask_opened(req, file, op, std::move(request), [req](const Reply& reply) {
    if (reply.error() != 0)
      sent(fuse_reply_err(req, static_cast<int>(reply.error())));
    else
      sent(fuse_reply_ioctl(req, 0, nullptr, 0));
  });
}

void Mount::keep_locks(fuse_req_t req, const Opened& file) {
  Request request;
  for (const auto& [owner, flock] : lock_owners_.take_offers(&file))
    add_owner(request, owner, flock);
  if (request.locks().empty()) {
    sent(fuse_reply_ioctl(req, 0, nullptr, 0));
    return;
  }
  ask_opened(req, file, FileOp::kKeepLocks, std::move(request), [req](const Reply& reply) {
    if (reply.error() != 0)
      sent(fuse_reply_err(req, static_cast<int>(reply.error())));
    else
      sent(fuse_reply_ioctl(req, 0, nullptr, 0));
  });
}

void Mount::join_locks(fuse_req_t req, const Opened& file, const LockOffer& offer) {
  using Elsewhere = LockOwners::Elsewhere;
  const NodeId node{static_cast<NodeId::rep>(offer.node)};
  lock_owners_.set_joining(
      &file, offer.owner == 0 ? std::nullopt : std::optional(Elsewhere{node, offer.owner}));
  sent(fuse_reply_ioctl(req, 0, nullptr, 0));
}

}  // namespace gob::file
