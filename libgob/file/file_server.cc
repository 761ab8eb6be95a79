#include "libgob/file/file_server.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "libgob/base/file_limit.h"
#include "libgob/base/page_table.h"
#include "libgob/file/impersonate.h"
#include "libgob/file/mount_point.h"

namespace gob::file {

namespace {

constexpr unsigned kThreads = 8;
constexpr unsigned kSyncThreads = 4;
constexpr std::size_t kMaxWaiting = 16384;

void put_time(const statx_timestamp& from, peer::FileTime& to) {
  to.set_seconds(from.tv_sec);
  to.set_nanoseconds(from.tv_nsec);
}

// Of one file by two mounts of its file system.
bool give_the_same_rights(int one, int other) {
  constexpr unsigned long kRights = ST_RDONLY | ST_NOEXEC;
  const auto looked = [](int fd, struct stat& status, struct statvfs& mount) {
    return ::fstat(fd, &status) == 0 && ::fstatvfs(fd, &mount) == 0;
  };
  struct stat status[2]{};
  struct statvfs mount[2]{};
  return looked(one, status[0], mount[0]) && looked(other, status[1], mount[1]) &&
         status[0].st_uid == status[1].st_uid && status[0].st_gid == status[1].st_gid &&
         (mount[0].f_flag & kRights) == (mount[1].f_flag & kRights);
}

}  // namespace

std::uint64_t visible_inode(const File& file, dev_t device, ino_t inode) {
  if (device == file.root_device) return inode;
  return mix64(inode ^ mix64(device)) | (std::uint64_t{1} << 63);
}

std::string descriptor_path(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

std::string place_of(const File& file) {
  std::error_code error;
  const auto place = std::filesystem::read_symlink(descriptor_path(file.path.get()), error);
  return error ? "file " + std::to_string(file.number) : "'" + place.string() + "'";
}

FileServer::FileServer(NodeId self, std::uint64_t incarnation, std::chrono::milliseconds timeout,
                       FileStore& store)
    : self_(self),
      incarnation_(incarnation),
      timeout_(timeout),
      store_(store),
      removals_([this](std::uint64_t number) { look_for_names(number); },
                [this] {
                  for (const std::shared_ptr<File>& file : table_.all())
                    if (file->asked_to_forget < File::kMostAskings) look_for_names(*file);
                }),
      table_([this](File& file, const auto& attachments) { forgotten(file, attachments); }) {}

Status FileServer::start() {
  if (Status watching = removals_.start(); !watching) return watching;
  if (Status syncing = sync_pool_.start(kSyncThreads, kMaxWaiting, prepare_to_impersonate);
      !syncing)
    return syncing;
  return pool_.start(kThreads, kMaxWaiting, prepare_to_impersonate);
}

WorkerPool& FileServer::pool_of(const Request& request) {
  return op_of(request) == FileOp::kSync ? sync_pool_ : pool_;
}

Result<UniqueFd> FileServer::open_root(const std::string& path) {
  const auto bad = [&](const char* why, int error) {
    return make_error(ErrorCode::kInvalidArgument, "cannot attach '" + path + "': " + why, error);
  };
  if (path.empty() || path.front() != '/') return bad("give its full path", EINVAL);
  UniqueFd fd(::open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!fd) return bad("it cannot be opened", errno);
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return bad("it cannot be looked at", errno);
  if (!S_ISDIR(status.st_mode) && !S_ISREG(status.st_mode))
    return bad("it is neither a folder nor a regular file", EINVAL);
  if (is_mount_of_gob(status.st_dev))
    return bad("it is in a mount of gob already; attach what it shows at its home", ELOOP);
  return fd;
}

void FileServer::probe(const std::string& path, bool folder, std::function<void(Status)> done) {
  const bool posted = pool_.post([path, folder, done] {
    const Result<UniqueFd> root = open_root(path);
    struct stat status {};
    if (!root)
      done(root.error());
    else if (::fstat(root->get(), &status) != 0)
      done(system_error("cannot attach '" + path + "'"));
    else if (S_ISDIR(status.st_mode) != folder)
      done(make_error(ErrorCode::kInvalidArgument,
                      "cannot attach '" + path + "': it is " +
                          (folder ? "a file; use --file" : "a folder; use --tree"),
                      folder ? ENOTDIR : EISDIR));
    else
      done({});
  });
  if (!posted)
    done(make_error(ErrorCode::kUnavailable, "too much is waiting for this node's disks", EAGAIN));
}

void FileServer::attach(ContainerId attached, const std::string& path) {
  table_.add_attachment(attached);
  const std::lock_guard guard(mutex_);
  roots_[attached] = {path, nullptr};
}

void FileServer::detach(ContainerId attached) {
  {
    const std::lock_guard guard(mutex_);
    roots_.erase(attached);
  }
  FileTable::Garbage garbage;
  table_.drop_attachment(attached, garbage);
  pool_.resume([gone = std::move(garbage)] {});
}

void FileServer::handle(NodeId from, Request request, Answer answer) {
  std::shared_ptr<Life> life;
  {
    const std::lock_guard guard(mutex_);
    std::shared_ptr<Life>& now = lives_[from];
    if (now == nullptr) now = std::make_shared<Life>(from);
    life = now;
  }
  const auto answer_it = [life, told = std::move(answer)](Reply reply) {
    if (!life->over) told(std::move(reply));
  };
  const auto asked = std::make_shared<Asked>(Asked{life, std::move(request), answer_it});
  // What would be kept for ever if it were refused is taken however many wait.
  if (!is_answered(op_of(asked->request))) return pool_.resume([this, asked] { dispatch(asked); });
  if (pool_of(asked->request).post([this, asked] { dispatch(asked); })) return;
  log_.add("full", [&] {
    return "a program of node " + std::to_string(from.value()) + " gets an I/O error: cannot " +
           to_words(asked->request) + " of file " + std::to_string(asked->request.file()) +
           ": gobd ends, or " + std::to_string(kMaxWaiting) +
           " operations wait for this node's disks already; look at their load";
  });
  Reply reply;
  reply.set_id(asked->request.id());
  reply.set_error(EIO);
  asked->answer(std::move(reply));
}

void FileServer::log_failure(const char* kind, const File& file, const Asked& asked,
                             const std::string& why) {
  log_.add(kind, [&] {
    return "a program of node " + std::to_string(asked.from->node.value()) +
           " gets an I/O error: cannot " + to_words(asked.request) + " of " + place_of(file) +
           ": " + why;
  });
}

void FileServer::work(const Life& from, const Request& request, Reply& reply) {
  reply.set_id(request.id());
  reply.set_incarnation(incarnation_);
  const FileOp op = op_of(request);
  const auto run = [&]() -> int {
    if (op == FileOp::kRelease || op == FileOp::kReleaseFolder) {
      const auto opened = table_.release(from.node, request.handle());
      return opened == nullptr ? EBADF : 0;
    }
    if (op == FileOp::kRoot) return root(from, request, reply);
    if (request.incarnation() != incarnation_) return ESTALE;
    const std::shared_ptr<File> file = table_.find(request.file());
    if (file == nullptr) return ESTALE;
    std::shared_ptr<OpenFile> opened;
    if (request.handle() != 0) {
      opened = table_.find_open(from.node, request.handle());
      if (opened == nullptr) return ESTALE;
    }
    file->used.store(++requests_, std::memory_order_relaxed);
    if (file->of_gob && op == FileOp::kAccess) return 0;
    if (file->of_gob && op != FileOp::kGetAttributes) return ELOOP;
    if (const int error = impersonate(request.caller()); error != 0) return error;
    const auto with_handle = [&](auto&& act) { return opened == nullptr ? EBADF : act(*opened); };
    const auto done = [](int result) { return result == 0 ? 0 : errno; };
    switch (op) {
      case FileOp::kLookup:
        return lookup(from, *file, request, reply);
      case FileOp::kGetAttributes:
        return fill(*file, reply);
      case FileOp::kSetAttributes:
        return set_attributes(from, *file, request, reply);
      case FileOp::kReadLink:
        return read_link(*file, reply);
      case FileOp::kMakeNode:
        return make_node(from, *file, request, reply);
      case FileOp::kMakeFolder:
        return make_folder(from, *file, request, reply);
      case FileOp::kUnlink:
        return remove(*file, request, 0);
      case FileOp::kRemoveFolder:
        return remove(*file, request, AT_REMOVEDIR);
      case FileOp::kSymlink:
        return make_link(from, *file, request, reply);
      case FileOp::kRename:
        return rename(*file, request, reply);
      case FileOp::kLink:
        return link(from, *file, request, reply);
      case FileOp::kOpen:
        return open(from, file, request, reply);
      case FileOp::kCreate:
        return create(from, *file, request, reply);
      case FileOp::kRead:
        return with_handle([&](OpenFile& o) { return read(o, request, reply); });
      case FileOp::kWrite:
        return with_handle([&](OpenFile& o) { return write(o, request, reply); });
      case FileOp::kSync:
        return with_handle([&](OpenFile& o) {
          return done(request.flags() != 0 ? ::fdatasync(o.fd.get()) : ::fsync(o.fd.get()));
        });
      case FileOp::kOpenFolder:
        return open_folder(from, file, reply);
      case FileOp::kReadFolder:
        return with_handle([&](OpenFile& o) { return read_folder(o, request, reply); });
      case FileOp::kSpace:
        return space(*file, reply);
      case FileOp::kSetXattr:
      case FileOp::kGetXattr:
      case FileOp::kListXattr:
      case FileOp::kRemoveXattr:
        return xattr(*file, request, reply);
      case FileOp::kAccess:
        return may_access(*file, request);
      case FileOp::kAllocate:
        return with_handle([&](OpenFile& o) {
          return done(::fallocate(o.fd.get(), static_cast<int>(request.mode()),
                                  static_cast<off_t>(request.offset()),
                                  static_cast<off_t>(request.size())));
        });
      case FileOp::kCopyRange:
        return with_handle([&](OpenFile& o) { return copy_range(from, o, request, reply); });
      case FileOp::kSeek:
        return with_handle([&](OpenFile& o) {
          const off_t found = ::lseek(o.fd.get(), static_cast<off_t>(request.offset()),
                                      static_cast<int>(request.flags()));
          if (found < 0) return errno;
          reply.set_value(static_cast<std::uint64_t>(found));
          return 0;
        });
      case FileOp::kRoot:
      case FileOp::kRelease:
      case FileOp::kReleaseFolder:
      case FileOp::kGetLock:
      case FileOp::kSetLock:
      case FileOp::kDropLocks:
      case FileOp::kListLocks:
      case FileOp::kOfferLocks:
      case FileOp::kKeepLocks:
      case FileOp::kLocksMoved:
      case FileOp::kMap:
      case FileOp::kWriteBack:
        break;
    }
    return ENOSYS;
  };
  const int error = run();
  reply.set_error(static_cast<std::uint32_t>(error));
  be_gobd();
}

// The root of an attachment. It is opened by gobd itself, on behalf of the administrator who
// attached it; what is below is looked up with the rights of who asks.
int FileServer::root(const Life& from, const Request& request, Reply& reply) {
  const ContainerId attached{static_cast<std::uint32_t>(request.file())};
  std::string path;
  std::shared_ptr<UniqueFd> fd;
  {
    const std::lock_guard guard(mutex_);
    const auto found = roots_.find(attached);
    if (found == roots_.end()) return ESTALE;
    path = found->second.path;
    fd = found->second.fd;
  }
  if (fd == nullptr) {
    Result<UniqueFd> opened = open_root(path);
    if (!opened) return opened.error().errno_value;
    fd = std::make_shared<UniqueFd>(std::move(*opened));
    const std::lock_guard guard(mutex_);
    const auto found = roots_.find(attached);
    if (found == roots_.end()) return ESTALE;
    if (found->second.fd == nullptr)
      found->second.fd = fd;
    else
      fd = found->second.fd;
  }
  UniqueFd own(::fcntl(fd->get(), F_DUPFD_CLOEXEC, 0));
  if (!own) return errno;
  std::shared_ptr<File> file;
  if (const int error = adopt(from, attached, nullptr, std::move(own), file); error != 0)
    return error;
  reply.set_file(file->number);
  return fill(*file, reply);
}

// `folder`: it was found or made in there; null: it is the attachment's root. What is done with a
// file that several attachments reach is done by the descriptor that the first of them gave, so
// with the rights that its mount gives: a way to it by another mount has to give the same.
int FileServer::adopt(const Life& from, ContainerId attached, const File* folder, UniqueFd path,
                      std::shared_ptr<File>& file) {
  // Nothing is asked of other file systems in the tree: one may be a mount of gob.
  struct statx status {};
  if (::statx(path.get(), "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC,
              STATX_TYPE | STATX_INO | STATX_MNT_ID, &status) != 0)
    return errno;
  const dev_t device = makedev(status.stx_dev_major, status.stx_dev_minor);
  FileTable::Found found{
      .attached = attached,
      .root_device = folder == nullptr ? device : folder->root_device,
      .path = std::move(path),
      .device = device,
      .inode = status.stx_ino,
      .mount = status.stx_mnt_id,
      .regular = S_ISREG(status.stx_mode),
      .of_gob = folder != nullptr && device != folder->device && is_mount_of_gob(device)};
  // A new descriptor has the lowest number that was free.
  const bool few_left = is_in_last_quarter(found.path.get());
  file = table_.adopt(from, found);
  if (file == nullptr) return ESTALE;
  file->used.store(++requests_, std::memory_order_relaxed);
  if (few_left) make_room();
  if (file->mount == found.mount || give_the_same_rights(file->path.get(), found.path.get()))
    return 0;
  log_.add("mounts", [&] {
    return place_of(*file) +
           " gets \"Device or resource busy\": it is attached by another mount of its file system, "
           "too, which gives other rights (read-only, or other owners); attach it by one of them";
  });
  table_.forget(from, file->number);
  return EBUSY;
}

// Hands a file that was just found or made to the node: a number, a reference, its attributes.
int FileServer::give(const Life& from, const File& parent, UniqueFd path, Reply& reply) {
  std::shared_ptr<File> file;
  if (const int error = adopt(from, parent.attached, &parent, std::move(path), file); error != 0)
    return error;
  const int error = fill(*file, reply);
  if (error == 0)
    reply.set_file(file->number);
  else
    table_.forget(from, file->number);
  return error;
}

int FileServer::fill(const File& file, Reply& reply) const {
  struct statx status {};
  const int how = AT_EMPTY_PATH | (file.of_gob ? AT_STATX_DONT_SYNC : 0);
  if (::statx(file.path.get(), "", how, STATX_BASIC_STATS, &status) != 0) return errno;
  peer::FileAttributes& to = *reply.mutable_attributes();
  to.set_inode(
      visible_inode(file, makedev(status.stx_dev_major, status.stx_dev_minor), status.stx_ino));
  to.set_size(status.stx_size);
  to.set_blocks(status.stx_blocks);
  to.set_mode(status.stx_mode);
  to.set_links(status.stx_nlink);
  to.set_uid(status.stx_uid);
  to.set_gid(status.stx_gid);
  to.set_device(makedev(status.stx_rdev_major, status.stx_rdev_minor));
  to.set_block_size(status.stx_blksize);
  put_time(status.stx_atime, *to.mutable_accessed());
  put_time(status.stx_mtime, *to.mutable_modified());
  put_time(status.stx_ctime, *to.mutable_changed());
  return 0;
}

void FileServer::forget(NodeId from, const peer::FileForget& forget) {
  if (forget.incarnation() != incarnation_) return;
  for (int i = 0; i < forget.files_size(); ++i)
    table_.forget(from, forget.files(i), forget.counts(i));
}

}  // namespace gob::file
