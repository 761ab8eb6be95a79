// Opened files and their bytes.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <memory>
#include <set>
#include <utility>

#include "libgob/file/mount.h"

namespace gob::file {

namespace {

// Of a read whose file changes its size all the time. From the third on a lease that it has waited
// for is not given back before it is answered (Mount::revoke).
constexpr unsigned kTriesWithoutHold = 2;
constexpr unsigned kMaxTries = 64;

// A descriptor for reading only goes by the kernel's cache, and so do its mappings. Through one
// that may write, every read and write comes here, and a shared mapping is refused by the kernel
// with ENODEV: it would not tell when a page is written.
void choose_path(fuse_file_info& info, bool has_container) {
  const bool reads_only = (info.flags & O_ACCMODE) == O_RDONLY && has_container;
  info.direct_io = reads_only ? 0 : 1;
  info.keep_cache = reads_only ? 1 : 0;
}

}  // namespace

void Mount::open_file(fuse_req_t req, fuse_ino_t inode, fuse_file_info* info) {
  Mount& self = of(req);
  const auto remote = self.inodes_.find(inode);
  Request request;
  request.set_flags(static_cast<std::uint32_t>(info->flags));
  self.ask(req, inode, FileOp::kOpen, std::move(request),
           [&self, req, remote, file_info = *info,
            fetches = self.fetch_ahead_.is(fuse_req_ctx(req)->pid)](const Reply& reply) mutable {
             if (reply.error() != 0) {
               sent(fuse_reply_err(req, static_cast<int>(reply.error())));
               return;
             }
             auto state = self.make_opened(*remote, reply);
             if (fetches) state->ahead = ReadAhead::kNone;
             file_info.fh = reinterpret_cast<std::uint64_t>(state.get());
             choose_path(file_info, state->container != ContainerId{});
             if (!sent(fuse_reply_open(req, &file_info)))
               self.release_handle(*state, FileOp::kRelease);
             else
               static_cast<void>(state.release());  // until release()
           });
}

void Mount::create(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode,
                   fuse_file_info* info) {
  Mount& self = of(req);
  const auto folder = self.inodes_.find(parent);
  Request request;
  request.set_name(name);
  request.set_mode(mode & 07777);
  request.set_flags(static_cast<std::uint32_t>(info->flags));
  self.ask(
      req, parent, FileOp::kCreate, std::move(request),
      [&self, req, folder, parent, name = std::string(name),
       file_info = *info](const Reply& reply) mutable {
        fuse_entry_param out{};
        if (reply.error() != 0 || !self.fill_entry(folder->home, reply, parent, name, out)) {
          self.client_.give_back(folder->home, FileOp::kCreate, reply);
          sent(fuse_reply_err(req, reply.error() != 0 ? static_cast<int>(reply.error()) : EIO));
          return;
        }
        auto state = self.make_opened({folder->home, reply.incarnation(), reply.file()}, reply);
        file_info.fh = reinterpret_cast<std::uint64_t>(state.get());
        choose_path(file_info, state->container != ContainerId{});
        const auto give = [&self, req, out, file_info](std::unique_ptr<Opened> made,
                                                       const Reply* current = nullptr) {
          fuse_entry_param entry = out;
          if (current != nullptr) entry.attr = to_stat(current->attributes());
          self.inodes_.note_told(entry.ino);
          if (!sent(fuse_reply_create(req, &entry, &file_info))) {
            self.release_handle(*made, FileOp::kRelease);
            self.forget_one(entry.ino, 1);
          } else {
            static_cast<void>(made.release());  // until release()
          }
        };
        if ((file_info.flags & O_TRUNC) == 0 || reply.attributes().size() == 0) {
          const RemoteFile remote = state->remote;
          const auto kept = std::make_shared<std::unique_ptr<Opened>>(std::move(state));
          return self.give_attributes(req, remote, reply, [give, kept](const Reply& current) {
            give(std::move(*kept), current.error() == 0 ? &current : nullptr);
          });
        }
        self.cut_created(req, std::move(state), out.ino, give);
      });
}

// Another node made the file first: it is cut like one that was opened.
void Mount::cut_created(fuse_req_t req, std::unique_ptr<Opened> file, fuse_ino_t inode,
                        std::function<void(std::unique_ptr<Opened>)> give) {
  Request request;
  request.set_set(kSetSize);
  const Opened& named = *file;
  const auto kept = std::make_shared<std::unique_ptr<Opened>>(std::move(file));
  ask_opened(req, named, FileOp::kSetAttributes, std::move(request),
             [this, req, kept, inode, give](const Reply& reply) {
               if (reply.error() == 0) return give(std::move(*kept));
               release_handle(**kept, FileOp::kRelease);
               sent(fuse_reply_err(req, static_cast<int>(reply.error())));
               forget_one(inode, 1);
             });
}

std::unique_ptr<Mount::Opened> Mount::make_opened(const RemoteFile& remote, const Reply& reply) {
  const ContainerId container{reply.container()};
  if (container != ContainerId{}) {
    const std::lock_guard guard(containers_mutex_);
    containers_[container] = remote;
    container_of_[remote] = container;
  }
  take_lease(remote, container, reply);
  return std::make_unique<Opened>(Opened{remote, reply.handle(), container});
}

void Mount::read(fuse_req_t req, fuse_ino_t inode, size_t size, off_t offset,
                 fuse_file_info* info) {
  // Only a read on behalf of a program names one; the others fill the kernel's cache.
  const auto reading =
      std::make_shared<Reading>(Reading{req,
                                        inode,
                                        opened(*info),
                                        static_cast<std::uint64_t>(offset),
                                        std::min(size, kMaxIoBytes),
                                        info->lock_owner != 0 ? Caching::kNone : Caching::kKernel,
                                        {}});
  if (reading->file.container == ContainerId{}) return of(req).read_at_home(reading);
  of(req).read_container(reading);
}

void Mount::read_at_home(const std::shared_ptr<Reading>& reading) {
  Request request;
  request.set_offset(reading->offset);
  request.set_size(reading->size);
  ask_opened(reading->req, reading->file, FileOp::kRead, std::move(request),
             [reading](const Reply& reply) {
               if (reply.error() != 0)
                 sent(fuse_reply_err(reading->req, static_cast<int>(reply.error())));
               else
                 sent(fuse_reply_buf(reading->req, reply.data().data(), reply.data().size()));
             });
}

// Up to the size that this node has a lease on, which must still hold when the kernel is answered.
void Mount::read_container(const std::shared_ptr<Reading>& reading) {
  const auto lease =
      reading->held.serial != 0 ? std::optional(reading->held) : leases_.find(reading->file.remote);
  if (!lease) return ask_for_lease(reading);
  const auto answer = [this, reading, serial = lease->serial] {
    const bool answered = leases_.answer_under(reading->file.remote, serial, [&] {
      sent(fuse_reply_buf(reading->req, reinterpret_cast<const char*>(reading->bytes.get()),
                          reading->length));
    });
    let_go_of_lease(*reading);
    if (!answered) ask_for_lease(reading);
  };
  const std::uint64_t left = lease->size - std::min(lease->size, reading->offset);
  reading->length = std::min<std::uint64_t>(left, reading->size);
  if (reading->length == 0) return answer();
  const bool may_wait = reading->file.ahead != ReadAhead::kNone && reading->held.serial == 0;
  if (reading->caching == Caching::kKernel && may_wait && !std::exchange(reading->noted, true) &&
      fetch_ahead_.note(reading->inode, reading->offset, reading->length, lease->size,
                        [this, reading] { read_container(reading); }))
    return;
  if (reading->bytes == nullptr) reading->bytes = buffers_.take(reading->size);
  data_.read(reading->file.container, reading->offset, {reading->bytes.get(), reading->length},
             reading->caching, reading->file.ahead, [this, reading, answer](const Status& status) {
               if (status) return answer();
               let_go_of_lease(*reading);
               fail_reading(reading, status.error());
             });
}

// The pages could not be had; if the home knows a better reason, that is the answer.
void Mount::fail_reading(const std::shared_ptr<Reading>& reading, const Error& why) {
  kernel_has_none_of(*reading);
  ask_opened(reading->req, reading->file, FileOp::kGetAttributes, {},
             [this, reading, why](const Reply& reply) {
               const int better = static_cast<int>(reply.error());
               if (better == 0) say_failed(*reading, "pages", why.context);
               const int own = why.errno_value != 0 ? why.errno_value : EIO;
               sent(fuse_reply_err(reading->req, better != 0 ? better : own));
             });
}

void Mount::say_failed(const Reading& reading, const char* kind, const std::string& why) {
  client_.log_failure(
      kind, reading.file.remote,
      "read " + std::to_string(reading.size) + " bytes at " + std::to_string(reading.offset), why);
}

// Before the home is asked: the answer may wait for a change that waits for the kernel here to
// forget these pages. It has locked them for this read, and has none of them.
void Mount::kernel_has_none_of(const Reading& reading) {
  if (reading.caching == Caching::kKernel)
    data_.not_given(reading.file.container, reading.offset, reading.size);
}

void Mount::ask_for_lease(const std::shared_ptr<Reading>& reading) {
  if (++reading->tries > kMaxTries) {
    // What the kernel keeps must come by the container, or nobody would tell it to forget.
    if (reading->caching == Caching::kNone) return read_at_home(reading);
    say_failed(*reading, "size",
               "its size changed " + std::to_string(kMaxTries) +
                   " times while it was read; read again when its writers rest");
    sent(fuse_reply_err(reading->req, EIO));
    return;
  }
  kernel_has_none_of(*reading);
  Request request;
  request.set_flags(kWithLease);
  request.set_offset(reading->offset);  // for the log
  request.set_size(reading->size);
  ask_opened(reading->req, reading->file, FileOp::kGetAttributes, std::move(request),
             [this, reading](const Reply& reply) {
               if (reply.error() != 0) {
                 sent(fuse_reply_err(reading->req, static_cast<int>(reply.error())));
                 return;
               }
               if (reading->tries > kTriesWithoutHold) take_awaited_lease(*reading, reply);
               take_lease(reading->file.remote, reading->file.container, reply);
               read_container(reading);
             });
}

void Mount::write(fuse_req_t req, fuse_ino_t, const char* bytes, size_t size, off_t offset,
                  fuse_file_info* info) {
  Request request;
  request.set_offset(static_cast<std::uint64_t>(offset));
  request.set_flags(static_cast<std::uint32_t>(info->flags));
  request.set_data(bytes, std::min(size, kMaxIoBytes));
  of(req).ask_opened(req, opened(*info), FileOp::kWrite, std::move(request),
                     [req](const Reply& reply) {
                       if (reply.error() != 0)
                         sent(fuse_reply_err(req, static_cast<int>(reply.error())));
                       else
                         sent(fuse_reply_write(req, reply.value()));
                     });
}

// A program closes a descriptor: its record locks on the file end, as POSIX has it.
void Mount::flush(fuse_req_t req, fuse_ino_t inode, fuse_file_info* info) {
  of(req).lock_owners_.drop(&opened(*info), info->lock_owner);
  of(req).drop_locks(inode, opened(*info), info->lock_owner, false, just_error(req));
}

void Mount::release(fuse_req_t req, fuse_ino_t inode, fuse_file_info* info) {
  Mount& self = of(req);
  const std::shared_ptr<Opened> state(&opened(*info));
  const std::set<std::uint64_t> owners = self.lock_owners_.take(state.get());
  const auto left = std::make_shared<std::atomic<std::size_t>>(owners.size() + 1);
  const auto end = [&self, state, left](const Reply&) {
    if (--*left == 0) self.release_handle(*state, FileOp::kRelease);
  };
  for (const std::uint64_t owner : owners) self.drop_locks(inode, *state, owner, false, end);
  if (info->flock_release != 0)
    self.drop_locks(inode, *state, info->lock_owner, true, end);
  else
    end({});
  sent(fuse_reply_err(req, 0));
}

void Mount::release_handle(const Opened& file, FileOp op) {
  Request request;
  request.set_op(static_cast<std::uint32_t>(op));
  request.set_incarnation(file.remote.incarnation);
  request.set_handle(file.handle);
  client_.call(file.remote.home, std::move(request), [](const Reply&) {});
}

void Mount::fsync(fuse_req_t req, fuse_ino_t, int data_only, fuse_file_info* info) {
  Request request;
  request.set_flags(data_only != 0 ? 1 : 0);
  of(req).ask_opened(req, opened(*info), FileOp::kSync, std::move(request), just_error(req));
}

void Mount::fallocate(fuse_req_t req, fuse_ino_t, int mode, off_t offset, off_t length,
                      fuse_file_info* info) {
  Request request;
  request.set_mode(static_cast<std::uint32_t>(mode));
  request.set_offset(static_cast<std::uint64_t>(offset));
  request.set_size(static_cast<std::uint64_t>(length));
  of(req).ask_opened(req, opened(*info), FileOp::kAllocate, std::move(request), just_error(req));
}

void Mount::copy_file_range(fuse_req_t req, fuse_ino_t, off_t offset, fuse_file_info* info,
                            fuse_ino_t, off_t to_offset, fuse_file_info* to_info, size_t length,
                            int) {
  const Opened& from = opened(*info);
  const Opened& to = opened(*to_info);
  if (from.remote.home != to.remote.home || from.remote.incarnation != to.remote.incarnation) {
    sent(fuse_reply_err(req, EXDEV));  // the kernel then copies by reading and writing
    return;
  }
  Request request;
  request.set_offset(static_cast<std::uint64_t>(offset));
  request.set_to_offset(static_cast<std::uint64_t>(to_offset));
  request.set_to_handle(to.handle);
  request.set_size(length);
  of(req).ask_opened(req, from, FileOp::kCopyRange, std::move(request), [req](const Reply& reply) {
    if (reply.error() != 0)
      sent(fuse_reply_err(req, static_cast<int>(reply.error())));
    else
      sent(fuse_reply_write(req, reply.value()));
  });
}

void Mount::lseek(fuse_req_t req, fuse_ino_t, off_t offset, int whence, fuse_file_info* info) {
  Request request;
  request.set_offset(static_cast<std::uint64_t>(offset));
  request.set_flags(static_cast<std::uint32_t>(whence));
  of(req).ask_opened(req, opened(*info), FileOp::kSeek, std::move(request),
                     [req](const Reply& reply) {
                       if (reply.error() != 0)
                         sent(fuse_reply_err(req, static_cast<int>(reply.error())));
                       else
                         sent(fuse_reply_lseek(req, static_cast<off_t>(reply.value())));
                     });
}

// A program wants to map the file's container: see FileTickets.
void Mount::ioctl(fuse_req_t req, fuse_ino_t inode, unsigned command, void*, fuse_file_info* info,
                  unsigned flags, const void* in, size_t in_bytes, size_t out_bytes) {
  Mount& self = of(req);
  if ((flags & FUSE_IOCTL_DIR) == 0 && inode != InodeTable::kRootInode &&
      self.lock_ioctl(req, command, opened(*info), in, in_bytes, out_bytes))
    return;
  if (command != kIoctlTicket || (flags & FUSE_IOCTL_DIR) != 0 || inode == InodeTable::kRootInode ||
      out_bytes != sizeof(FileTicket)) {
    sent(fuse_reply_err(req, ENOTTY));
    return;
  }
  const RemoteFile remote = opened(*info).remote;
  self.ask_opened(req, opened(*info), FileOp::kMap, {}, [&self, req, remote](const Reply& reply) {
    if (reply.error() != 0) {
      sent(fuse_reply_err(req, static_cast<int>(reply.error())));
      return;
    }
    const ContainerId container{reply.container()};
    {
      const std::lock_guard guard(self.containers_mutex_);
      self.containers_[container] = remote;
      self.container_of_[remote] = container;
    }
    const Result<FileTicket> ticket = self.tickets_.give({container, reply.attributes().size()});
    if (ticket) {
      sent(fuse_reply_ioctl(req, 0, ticket->data(), sizeof(FileTicket)));
      return;
    }
    self.client_.log_failure("ticket", remote, "map for writing", ticket.error().message());
    sent(fuse_reply_err(req, EIO));
  });
}

}  // namespace gob::file
