// Entries of folders, and the mount's own folder, whose entries are the attachments.
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "libgob/file/mount.h"

namespace gob::file {

namespace {

constexpr const char* kSelfAndParent[] = {".", ".."};

}  // namespace

void Mount::lookup(fuse_req_t req, fuse_ino_t parent, const char* name) {
  Mount& self = of(req);
  if (parent != InodeTable::kRootInode) {
    const auto remote = self.inodes_.find(parent);
    if (remote && self.answer_known(req, *remote, name)) return;
    Request request;
    request.set_name(name);
    self.ask(req, parent, FileOp::kLookup, std::move(request),
             [&self, remote, name = std::string(name),
              done = self.entry(req, remote ? remote->home : kNoNode, parent, name)](
                 const Reply& reply) {
               if (reply.name_lease() != 0) self.note_name(*remote, name, reply);
               done(reply);
             });
    return;
  }
  Attachment found{};
  {
    const std::lock_guard guard(self.mutex_);
    const auto it = self.attachments_.find(name);
    if (it == self.attachments_.end()) {
      sent(fuse_reply_err(req, std::strlen(name) > kMaxFileNameBytes ? ENAMETOOLONG : ENOENT));
      return;
    }
    found = it->second;
  }
  Request request;
  request.set_op(static_cast<std::uint32_t>(FileOp::kRoot));
  request.set_file(found.container.value());
  put_caller(req, request, false);
  self.client_.call(found.home, std::move(request), self.entry(req, found.home, parent, name));
}

void Mount::note_name(const RemoteFile& folder, const std::string& name, const Reply& reply) {
  leases_.grant(folder, {reply.name_lease(), 0});
  names_.note(
      folder, name,
      {{folder.home, reply.incarnation(), reply.file()}, reply.attributes(), reply.name_lease()});
}

// A folder that was looked up a moment ago. The kernel takes the attributes for old ones.
bool Mount::answer_known(fuse_req_t req, const RemoteFile& folder, const char* name) {
  const auto known = names_.find(folder, name);
  if (!known) return false;
  fuse_entry_param out{};
  out.ino = inodes_.enter_again(known->file);
  if (out.ino == 0) return false;
  out.attr = to_stat(known->attributes);
  bool taken = false;
  const bool answered = leases_.answer_under(folder, known->lease,
                                             [&] { taken = sent(fuse_reply_entry(req, &out)); });
  if (!taken) forget_one(out.ino, 1);
  return answered;
}

void Mount::forget(fuse_req_t req, fuse_ino_t inode, std::uint64_t lookups) {
  of(req).forget_one(inode, lookups);
  fuse_reply_none(req);
}

void Mount::forget_multi(fuse_req_t req, size_t count, fuse_forget_data* forgets) {
  for (size_t i = 0; i < count; ++i) of(req).forget_one(forgets[i].ino, forgets[i].nlookup);
  fuse_reply_none(req);
}

void Mount::readlink(fuse_req_t req, fuse_ino_t inode) {
  of(req).ask(req, inode, FileOp::kReadLink, {}, [req](const Reply& reply) {
    if (reply.error() != 0)
      sent(fuse_reply_err(req, static_cast<int>(reply.error())));
    else
      sent(fuse_reply_readlink(req, reply.data().c_str()));
  });
}

// The kernel gives the mode with the caller's umask taken off already.
void Mount::mknod(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, dev_t device) {
  Mount& self = of(req);
  const auto remote = self.inodes_.find(parent);
  Request request;
  request.set_name(name);
  request.set_mode(mode);
  request.set_device(device);
  self.ask(req, parent, FileOp::kMakeNode, std::move(request),
           self.entry(req, remote ? remote->home : kNoNode, parent, name));
}

void Mount::mkdir(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode) {
  Mount& self = of(req);
  const auto remote = self.inodes_.find(parent);
  Request request;
  request.set_name(name);
  request.set_mode(mode);
  self.ask(req, parent, FileOp::kMakeFolder, std::move(request),
           self.entry(req, remote ? remote->home : kNoNode, parent, name));
}

void Mount::unlink(fuse_req_t req, fuse_ino_t parent, const char* name) {
  Request request;
  request.set_name(name);
  of(req).ask(req, parent, FileOp::kUnlink, std::move(request), just_error(req));
}

void Mount::rmdir(fuse_req_t req, fuse_ino_t parent, const char* name) {
  Request request;
  request.set_name(name);
  of(req).ask(req, parent, FileOp::kRemoveFolder, std::move(request), just_error(req));
}

void Mount::symlink(fuse_req_t req, const char* target, fuse_ino_t parent, const char* name) {
  Mount& self = of(req);
  const auto remote = self.inodes_.find(parent);
  Request request;
  request.set_name(name);
  request.set_to_name(target);
  self.ask(req, parent, FileOp::kSymlink, std::move(request),
           self.entry(req, remote ? remote->home : kNoNode, parent, name));
}

void Mount::rename(fuse_req_t req, fuse_ino_t parent, const char* name, fuse_ino_t to_parent,
                   const char* to_name, unsigned flags) {
  Mount& self = of(req);
  const auto from = self.inodes_.find(parent);
  const auto to = self.inodes_.find(to_parent);
  if (parent != to_parent && from && (!to || to->home != from->home)) {
    // Two attachments are two file systems.
    sent(fuse_reply_err(req, to_parent == InodeTable::kRootInode ? EPERM : EXDEV));
    return;
  }
  Request request;
  request.set_name(name);
  request.set_to_file(to ? to->file : 0);
  request.set_to_name(to_name);
  request.set_flags(flags);
  // The kernel knows what it moved by the new name, and must be told that one when it is to forget.
  const InodeTable::Name old_name{parent, name};
  const InodeTable::Name new_name{to_parent, to_name};
  self.ask(req, parent, FileOp::kRename, std::move(request),
           [&self, home = from ? from->home : NodeId{}, old_name, new_name,
            give = just_error(req)](const Reply& reply) {
             const auto now = [&](int which, const InodeTable::Name& was,
                                  const InodeTable::Name& is) {
               if (reply.moved_size() > which)
                 self.inodes_.note_moved({home, reply.incarnation(), reply.moved(which)}, was, is);
             };
             now(0, old_name, new_name);
             now(1, new_name, old_name);
             give(reply);
           });
}

void Mount::link(fuse_req_t req, fuse_ino_t inode, fuse_ino_t to_parent, const char* to_name) {
  Mount& self = of(req);
  const auto from = self.inodes_.find(inode);
  const auto to = self.inodes_.find(to_parent);
  if (from && (!to || to->home != from->home)) {
    sent(fuse_reply_err(req, to_parent == InodeTable::kRootInode ? EPERM : EXDEV));
    return;
  }
  Request request;
  request.set_to_file(to ? to->file : 0);
  request.set_to_name(to_name);
  self.ask(req, inode, FileOp::kLink, std::move(request),
           self.entry(req, from ? from->home : kNoNode, to_parent, to_name));
}

void Mount::opendir(fuse_req_t req, fuse_ino_t inode, fuse_file_info* info) {
  Mount& self = of(req);
  if (inode == InodeTable::kRootInode) {
    info->fh = 0;
    sent(fuse_reply_open(req, info));
    return;
  }
  const auto remote = self.inodes_.find(inode);
  self.ask(req, inode, FileOp::kOpenFolder, {},
           [&self, req, remote, file_info = *info](const Reply& reply) mutable {
             if (reply.error() != 0) {
               sent(fuse_reply_err(req, static_cast<int>(reply.error())));
               return;
             }
             auto state = std::make_unique<Opened>(Opened{*remote, reply.handle(), {}});
             file_info.fh = reinterpret_cast<std::uint64_t>(state.get());
             if (!sent(fuse_reply_open(req, &file_info)))
               self.release_handle(*state, FileOp::kReleaseFolder);
             else
               static_cast<void>(state.release());  // until releasedir()
           });
}

void Mount::readdir(fuse_req_t req, fuse_ino_t inode, size_t size, off_t offset,
                    fuse_file_info* info) {
  Mount& self = of(req);
  if (inode == InodeTable::kRootInode) return self.read_own_folder(req, size, offset);
  Request request;
  request.set_offset(static_cast<std::uint64_t>(offset));
  request.set_size(size);
  self.ask_opened(
      req, opened(*info), FileOp::kReadFolder, std::move(request), [req, size](const Reply& reply) {
        if (reply.error() != 0) {
          sent(fuse_reply_err(req, static_cast<int>(reply.error())));
          return;
        }
        std::string bytes(size, '\0');
        std::size_t used = 0;
        for (const peer::FileEntry& entry : reply.entries()) {
          struct stat status {};
          status.st_ino = entry.inode();
          status.st_mode = DTTOIF(entry.type());
          const std::size_t length =
              fuse_add_direntry(req, bytes.data() + used, size - used, entry.name().c_str(),
                                &status, static_cast<off_t>(entry.next()));
          if (length > size - used) break;  // the kernel goes on behind the last that fits
          used += length;
        }
        sent(fuse_reply_buf(req, bytes.data(), used));
      });
}

void Mount::read_own_folder(fuse_req_t req, size_t size, off_t offset) {
  std::vector<std::string> names(std::begin(kSelfAndParent), std::end(kSelfAndParent));
  {
    const std::lock_guard guard(mutex_);
    for (const auto& [name, attachment] : attachments_) names.push_back(name);
  }
  std::string bytes(size, '\0');
  std::size_t used = 0;
  for (auto i = static_cast<std::size_t>(offset); i < names.size(); ++i) {
    struct stat status {};
    status.st_ino = InodeTable::kRootInode;
    status.st_mode = S_IFDIR;
    const std::size_t length =
        fuse_add_direntry(req, bytes.data() + used, size - used, names[i].c_str(), &status,
                          static_cast<off_t>(i + 1));
    if (length > size - used) break;
    used += length;
  }
  sent(fuse_reply_buf(req, bytes.data(), used));
}

void Mount::releasedir(fuse_req_t req, fuse_ino_t inode, fuse_file_info* info) {
  if (inode != InodeTable::kRootInode) {
    const std::unique_ptr<Opened> state(&opened(*info));
    of(req).release_handle(*state, FileOp::kReleaseFolder);
  }
  sent(fuse_reply_err(req, 0));
}

void Mount::fsyncdir(fuse_req_t req, fuse_ino_t inode, int data_only, fuse_file_info* info) {
  if (inode == InodeTable::kRootInode) {
    sent(fuse_reply_err(req, 0));
    return;
  }
  Request request;
  request.set_flags(data_only != 0 ? 1 : 0);
  of(req).ask_opened(req, opened(*info), FileOp::kSync, std::move(request), just_error(req));
}

}  // namespace gob::file
