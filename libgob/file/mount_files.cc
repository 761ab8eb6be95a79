// Opened files and their bytes.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "libgob/file/mount.h"

namespace gob::file {

namespace {

// Every read and write comes to gobd: the kernel keeps nothing of its own that could grow old. A
// shared mapping, which would have to be kept, is refused by the kernel with ENODEV.
void pass_through(fuse_file_info& info) {
  info.direct_io = 1;
  info.keep_cache = 0;
}

}  // namespace

void Mount::open_file(fuse_req_t req, fuse_ino_t inode, fuse_file_info* info) {
  Mount& self = of(req);
  const auto remote = self.inodes_.find(inode);
  Request request;
  request.set_flags(static_cast<std::uint32_t>(info->flags));
  self.ask(req, inode, FileOp::kOpen, std::move(request),
           [&self, req, remote, file_info = *info](const Reply& reply) mutable {
             if (reply.error() != 0) {
               fuse_reply_err(req, static_cast<int>(reply.error()));
               return;
             }
             auto state = std::make_unique<Opened>(Opened{*remote, reply.handle()});
             file_info.fh = reinterpret_cast<std::uint64_t>(state.get());
             pass_through(file_info);
             if (fuse_reply_open(req, &file_info) != 0)
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
  self.ask(req, parent, FileOp::kCreate, std::move(request),
           [&self, req, folder, file_info = *info](const Reply& reply) mutable {
             fuse_entry_param out{};
             if (reply.error() != 0 || !self.fill_entry(folder->home, reply, out)) {
               fuse_reply_err(req, reply.error() != 0 ? static_cast<int>(reply.error()) : EIO);
               return;
             }
             auto state = std::make_unique<Opened>(
                 Opened{{folder->home, reply.incarnation(), reply.file()}, reply.handle()});
             file_info.fh = reinterpret_cast<std::uint64_t>(state.get());
             pass_through(file_info);
             if (fuse_reply_create(req, &out, &file_info) != 0) {
               self.release_handle(*state, FileOp::kRelease);
               self.forget_one(out.ino, 1);
             } else {
               static_cast<void>(state.release());
             }
           });
}

void Mount::read(fuse_req_t req, fuse_ino_t, size_t size, off_t offset, fuse_file_info* info) {
  Request request;
  request.set_offset(static_cast<std::uint64_t>(offset));
  request.set_size(std::min(size, kMaxIoBytes));
  of(req).ask_opened(req, opened(*info), FileOp::kRead, std::move(request),
                     [req](const Reply& reply) {
                       if (reply.error() != 0)
                         fuse_reply_err(req, static_cast<int>(reply.error()));
                       else
                         fuse_reply_buf(req, reply.data().data(), reply.data().size());
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
                         fuse_reply_err(req, static_cast<int>(reply.error()));
                       else
                         fuse_reply_write(req, reply.value());
                     });
}

// A program closes a descriptor: its record locks on the file end, as POSIX has it.
void Mount::flush(fuse_req_t req, fuse_ino_t inode, fuse_file_info* info) {
  of(req).drop_locks(inode, opened(*info), info->lock_owner, false, just_error(req));
}

void Mount::release(fuse_req_t req, fuse_ino_t inode, fuse_file_info* info) {
  Mount& self = of(req);
  const std::shared_ptr<Opened> state(&opened(*info));
  const auto end = [&self, state](const Reply&) { self.release_handle(*state, FileOp::kRelease); };
  if (info->flock_release != 0)
    self.drop_locks(inode, *state, info->lock_owner, true, end);
  else
    end({});
  fuse_reply_err(req, 0);
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
    fuse_reply_err(req, EXDEV);  // the kernel then copies by reading and writing
    return;
  }
  Request request;
  request.set_offset(static_cast<std::uint64_t>(offset));
  request.set_to_offset(static_cast<std::uint64_t>(to_offset));
  request.set_to_handle(to.handle);
  request.set_size(length);
  of(req).ask_opened(req, from, FileOp::kCopyRange, std::move(request), [req](const Reply& reply) {
    if (reply.error() != 0)
      fuse_reply_err(req, static_cast<int>(reply.error()));
    else
      fuse_reply_write(req, reply.value());
  });
}

void Mount::lseek(fuse_req_t req, fuse_ino_t, off_t offset, int whence, fuse_file_info* info) {
  Request request;
  request.set_offset(static_cast<std::uint64_t>(offset));
  request.set_flags(static_cast<std::uint32_t>(whence));
  of(req).ask_opened(req, opened(*info), FileOp::kSeek, std::move(request),
                     [req](const Reply& reply) {
                       if (reply.error() != 0)
                         fuse_reply_err(req, static_cast<int>(reply.error()));
                       else
                         fuse_reply_lseek(req, static_cast<off_t>(reply.value()));
                     });
}

}  // namespace gob::file
