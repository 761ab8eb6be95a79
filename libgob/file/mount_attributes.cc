// Attributes, permissions, extended attributes, room on the disk.
#include <unistd.h>

#include <cerrno>
#include <ctime>

#include "libgob/file/mount.h"

namespace gob::file {

namespace {

// Asked for again each time: another node may have changed them.
constexpr double kNoTimeout = 0;

struct stat own_folder() {
  struct stat status {};
  status.st_ino = InodeTable::kRootInode;
  status.st_mode = S_IFDIR | 0555;
  status.st_nlink = 2;
  return status;
}

void put_time(const timespec& from, peer::FileTime& to) {
  to.set_seconds(from.tv_sec);
  to.set_nanoseconds(static_cast<std::uint32_t>(from.tv_nsec));
}

std::function<void(const peer::FileReply&)> attributes_of(fuse_req_t req, double kept_seconds) {
  return [req, kept_seconds](const peer::FileReply& reply) {
    if (reply.error() != 0) {
      sent(fuse_reply_err(req, static_cast<int>(reply.error())));
      return;
    }
    const struct stat status = to_stat(reply.attributes());
    sent(fuse_reply_attr(req, &status, reply.keep() ? kept_seconds : kNoTimeout));
  };
}

// The size of a value, or the value.
std::function<void(const peer::FileReply&)> value_of(fuse_req_t req, size_t size) {
  return [req, size](const peer::FileReply& reply) {
    if (reply.error() != 0)
      sent(fuse_reply_err(req, static_cast<int>(reply.error())));
    else if (size == 0)
      sent(fuse_reply_xattr(req, reply.value()));
    else
      sent(fuse_reply_buf(req, reply.data().data(), reply.data().size()));
  };
}

}  // namespace

void Mount::getattr(fuse_req_t req, fuse_ino_t inode, fuse_file_info*) {
  if (inode == InodeTable::kRootInode) {
    const struct stat status = own_folder();
    sent(fuse_reply_attr(req, &status, kNoTimeout));
    return;
  }
  of(req).ask_attributes(req, inode, FileOp::kGetAttributes, {}, false);
}

void Mount::ask_attributes(fuse_req_t req, fuse_ino_t inode, FileOp op, Request request,
                           bool groups) {
  const auto remote = inodes_.find(inode);
  ask(
      req, inode, op, std::move(request),
      [this, req, remote](const Reply& reply) {
        give_attributes(req, remote.value_or(RemoteFile{}), reply,
                        attributes_of(req, config_.kept_seconds));
      },
      groups);
}

void Mount::setattr(fuse_req_t req, fuse_ino_t inode, struct stat* wanted, int set,
                    fuse_file_info* info) {
  Request request;
  peer::FileAttributes& to = *request.mutable_attributes();
  std::uint32_t bits = 0;
  const auto when = [&](int flag, std::uint32_t bit, auto&& put) {
    if ((set & flag) == 0) return;
    bits |= bit;
    put();
  };
  when(FUSE_SET_ATTR_MODE, kSetMode, [&] { to.set_mode(wanted->st_mode); });
  when(FUSE_SET_ATTR_UID, kSetUid, [&] { to.set_uid(wanted->st_uid); });
  when(FUSE_SET_ATTR_GID, kSetGid, [&] { to.set_gid(wanted->st_gid); });
  when(FUSE_SET_ATTR_SIZE, kSetSize,
       [&] { to.set_size(static_cast<std::uint64_t>(wanted->st_size)); });
  when(FUSE_SET_ATTR_ATIME, kSetAccessed,
       [&] { put_time(wanted->st_atim, *to.mutable_accessed()); });
  when(FUSE_SET_ATTR_MTIME, kSetModified,
       [&] { put_time(wanted->st_mtim, *to.mutable_modified()); });
  when(FUSE_SET_ATTR_ATIME_NOW, kSetAccessedNow, [] {});
  when(FUSE_SET_ATTR_MTIME_NOW, kSetModifiedNow, [] {});
  request.set_set(bits);
  if (info != nullptr && info->fh != 0) request.set_handle(opened(*info).handle);
  of(req).ask_attributes(req, inode, FileOp::kSetAttributes, std::move(request), true);
}

void Mount::statfs(fuse_req_t req, fuse_ino_t inode) {
  if (inode == InodeTable::kRootInode) {
    struct statvfs status {};
    status.f_namemax = kMaxFileNameBytes;
    sent(fuse_reply_statfs(req, &status));
    return;
  }
  of(req).ask(
      req, inode, FileOp::kSpace, {},
      [req](const Reply& reply) {
        if (reply.error() != 0) {
          sent(fuse_reply_err(req, static_cast<int>(reply.error())));
          return;
        }
        const peer::FileSystemSpace& space = reply.space();
        struct statvfs status {};
        status.f_bsize = space.block_size();
        status.f_frsize = space.fragment_size();
        status.f_blocks = space.blocks();
        status.f_bfree = space.free();
        status.f_bavail = space.available();
        status.f_files = space.files();
        status.f_ffree = space.files_free();
        status.f_namemax = space.name_max();
        sent(fuse_reply_statfs(req, &status));
      },
      false);
}

void Mount::access(fuse_req_t req, fuse_ino_t inode, int mask) {
  if (inode == InodeTable::kRootInode) {
    sent(fuse_reply_err(req, (mask & W_OK) != 0 ? EACCES : 0));
    return;
  }
  Request request;
  request.set_flags(static_cast<std::uint32_t>(mask));
  of(req).ask(req, inode, FileOp::kAccess, std::move(request), just_error(req));
}

void Mount::setxattr(fuse_req_t req, fuse_ino_t inode, const char* name, const char* value,
                     size_t size, int flags) {
  Request request;
  request.set_name(name);
  request.set_data(value, size);
  request.set_flags(static_cast<std::uint32_t>(flags));
  of(req).ask(req, inode, FileOp::kSetXattr, std::move(request), just_error(req));
}

void Mount::getxattr(fuse_req_t req, fuse_ino_t inode, const char* name, size_t size) {
  if (inode == InodeTable::kRootInode) {
    sent(fuse_reply_err(req, ENODATA));
    return;
  }
  Request request;
  request.set_name(name);
  request.set_size(size);
  of(req).ask(req, inode, FileOp::kGetXattr, std::move(request), value_of(req, size));
}

void Mount::listxattr(fuse_req_t req, fuse_ino_t inode, size_t size) {
  if (inode == InodeTable::kRootInode) {
    sent(fuse_reply_err(req, ENODATA));
    return;
  }
  Request request;
  request.set_size(size);
  of(req).ask(req, inode, FileOp::kListXattr, std::move(request), value_of(req, size));
}

void Mount::removexattr(fuse_req_t req, fuse_ino_t inode, const char* name) {
  Request request;
  request.set_name(name);
  of(req).ask(req, inode, FileOp::kRemoveXattr, std::move(request), just_error(req));
}

}  // namespace gob::file
