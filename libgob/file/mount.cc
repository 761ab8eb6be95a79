// The mount's life, and what its operations share.
#include "libgob/file/mount.h"

#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "libgob/file/failure_log.h"
#include "libgob/file/mount_point.h"

namespace gob::file {

namespace {

constexpr unsigned kMaxBackground = 64;  // requests the kernel may have under way by itself
constexpr std::size_t kUsualReadAhead = std::size_t{128} << 10;  // the kernel's own
constexpr std::size_t kMaxNotifiers = 512;
constexpr int kMaxGroupsAsked = 256;

}  // namespace

bool sent(int result) {
  // ENOENT: who asked was killed, or the mount has ended.
  if (result == 0 || result == -ENOENT) return result == 0;
  static FailureLog log;
  log.add(std::to_string(result), [&] {
    return "a program may wait for ever: the kernel does not take an answer of the mount (" +
           std::string(std::strerror(-result)) + "); report this, and end gobd should it hang";
  });
  return false;
}

struct stat to_stat(const peer::FileAttributes& from) {
  struct stat to {};
  to.st_ino = from.inode();
  to.st_mode = from.mode();
  to.st_nlink = from.links();
  to.st_uid = from.uid();
  to.st_gid = from.gid();
  to.st_rdev = from.device();
  to.st_size = static_cast<off_t>(from.size());
  to.st_blksize = from.block_size();
  to.st_blocks = static_cast<blkcnt_t>(from.blocks());
  const auto time = [](const peer::FileTime& t) {
    return timespec{static_cast<time_t>(t.seconds()), static_cast<long>(t.nanoseconds())};
  };
  to.st_atim = time(from.accessed());
  to.st_mtim = time(from.modified());
  to.st_ctim = time(from.changed());
  return to;
}

Result<std::unique_ptr<Mount>> Mount::open(const Config& config, FileClient& client,
                                           FileData& data) {
  std::unique_ptr<Mount> mount(new Mount(config, client, data));
  if (Status status = mount->mount(); !status) return status.error();
  data.set_kernel_cache(mount.get());
  return mount;
}

std::string Mount::describe_data_path() {
  return "requests of up to 1 MiB, several threads, data copied once each way; this libfuse (" +
         std::string(fuse_pkgversion()) + ") has no FUSE over io_uring";
}

Status Mount::mount() {
  if (Status status = prepare_mount_point(config_.path); !status) return status;
  const std::string source = "fsname=" + config_.source + ",subtype=gob";
  std::vector<std::string> words = {"gobd", "-o", source};
  // Permissions are the home's business, for every user of this machine.
  if (::geteuid() == 0) words.insert(words.end(), {"-o", "allow_other"});
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  fuse_args args = FUSE_ARGS_INIT(static_cast<int>(arguments.size()), arguments.data());
  const fuse_lowlevel_ops table = operations();
  session_ = fuse_session_new(&args, &table, sizeof table, this);
  fuse_opt_free_args(&args);
  if (session_ == nullptr)
    return make_error(ErrorCode::kSystem, "cannot start a FUSE session for " + config_.path);
  if (fuse_session_mount(session_, config_.path.c_str()) != 0) {
    const int error = errno;
    fuse_session_destroy(session_);
    session_ = nullptr;
    return make_error(ErrorCode::kSystem,
                      "cannot mount at " + config_.path +
                          "; is /dev/fuse there, and fusermount3 installed for other users than "
                          "root?",
                      error);
  }
  if (Result<MountGuard> guard = MountGuard::start(config_.path))
    guard_ = std::move(*guard);
  else
    spdlog::warn(
        "mount {}: should this gobd be killed, programs that use the mount may have to wait until "
        "it is unmounted: {}",
        config_.path, guard.error().message());
  std::size_t read_ahead_bytes = kMaxIoBytes;
  if (!set_read_ahead(config_.path, read_ahead_bytes)) {
    spdlog::info("mount {}: the kernel reads no more than 128 KiB ahead of programs", config_.path);
    read_ahead_bytes = kUsualReadAhead;
  }
  try {
    for (unsigned i = 0; i < config_.threads; ++i) threads_.emplace_back([this] { serve(); });
    if (Status started = fetch_ahead_.start(read_ahead_bytes); !started) {
      stop();
      return started;
    }
  } catch (const std::system_error& error) {
    stop();
    return make_error(ErrorCode::kSystem, "cannot start the threads of the mount",
                      error.code().value());
  }
  return {};
}

Mount::~Mount() {
  stop();
  if (session_ != nullptr) fuse_session_destroy(session_);
}

void Mount::stop() {
  if (session_ == nullptr || std::exchange(stopped_, true)) return;
  data_.set_kernel_cache(nullptr);
  // Ends the connection whoever uses it, so that the threads' reads end, and takes the mount away.
  abort_mount(config_.path);
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  fetch_ahead_.stop();
  {
    const std::lock_guard guard(drops_mutex_);
    notifiers_end_ = true;
  }
  drops_changed_.notify_all();
  for (std::thread& thread : notifiers_) thread.join();
  fuse_session_unmount(session_);
  guard_ = {};
}

void Mount::serve() {
  ::prctl(PR_SET_NAME, "gob-mount");
  fuse_buf buffer{};
  while (fuse_session_exited(session_) == 0) {
    const int got = fuse_session_receive_buf(session_, &buffer);
    if (got == -EINTR || got == -EAGAIN) continue;
    if (got <= 0) {
      if (got < 0)
        spdlog::warn("mount {}: the kernel gives no more requests ({})", config_.path, got);
      fuse_session_exit(session_);
      break;
    }
    fuse_session_process_buf(session_, &buffer);
  }
  std::free(buffer.mem);
}

void Mount::drop(ContainerId container, PageIndex first, std::uint64_t pages,
                 std::function<void()> done) {
  post_drop([this, container, first, pages, done = std::move(done)] {
    drop_pages(container, first, pages);
    done();
  });
}

// One after the other: it may wait for who looks for a name in the folder, who may wait for others
// to have pages dropped. What does not fit is asked for again.
void Mount::forget_gone(NodeId home, const peer::FileGone& gone) {
  constexpr std::size_t kMostGone = 65536;
  {
    const std::lock_guard guard(drops_mutex_);
    if (gone_.size() >= kMostGone) return;
    gone_.push_back({home, gone.incarnation(), gone.file()});
    if (gone_.size() > 1) return;
  }
  post_drop([this] { forget_all_gone(); });
}

void Mount::forget_all_gone() {
  for (;;) {
    RemoteFile file;
    {
      const std::lock_guard guard(drops_mutex_);
      file = gone_.front();
    }
    forget_attributes(file, [] {});
    // The kernel may know another file by such a name since: then it asks for it anew.
    for (const InodeTable::Name& known : inodes_.names_of(file))
      static_cast<void>(fuse_lowlevel_notify_inval_entry(session_, known.folder, known.name.c_str(),
                                                         known.name.size()));
    const std::lock_guard guard(drops_mutex_);
    gone_.pop_front();
    if (gone_.empty()) return;
  }
}

void Mount::post_drop(Drop drop) {
  {
    const std::lock_guard guard(drops_mutex_);
    drops_.push_back(std::move(drop));
    if (drops_.size() > idle_notifiers_ && !notifiers_end_ && notifiers_.size() < kMaxNotifiers) {
      try {
        notifiers_.emplace_back([this] { notify(); });
      } catch (const std::system_error& error) {
        spdlog::warn("mount {}: no thread to tell the kernel what to forget: {}", config_.path,
                     error.what());
      }
    }
  }
  drops_changed_.notify_one();
}

// It waits for those that it is reading; those reads are answered meanwhile.
void Mount::drop_pages(ContainerId container, PageIndex first, std::uint64_t pages) {
  std::optional<RemoteFile> file;
  {
    const std::lock_guard guard(containers_mutex_);
    const auto found = containers_.find(container);
    if (found != containers_.end()) file = found->second;
  }
  const std::uint64_t inode = file ? inodes_.number_of(*file) : 0;
  // A file that the kernel has forgotten has no pages; neither has one on a mount that ended.
  if (inode != 0)
    static_cast<void>(fuse_lowlevel_notify_inval_inode(
        session_, inode, static_cast<off_t>(first.value() * kPageSize),
        static_cast<off_t>(pages * kPageSize)));
}

void Mount::notify() {
  ::prctl(PR_SET_NAME, "gob-mount-drop");
  std::unique_lock lock(drops_mutex_);
  for (;;) {
    ++idle_notifiers_;
    drops_changed_.wait(lock, [this] { return notifiers_end_ || !drops_.empty(); });
    --idle_notifiers_;
    if (drops_.empty()) return;
    const Drop next = std::move(drops_.front());
    drops_.pop_front();
    lock.unlock();
    next();
    lock.lock();
  }
}

void Mount::init(fuse_conn_info& connection) {
  const unsigned wanted = FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS |
                          FUSE_CAP_HANDLE_KILLPRIV | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_ASYNC_DIO |
                          FUSE_CAP_ASYNC_READ;
  connection.want |= connection.capable & wanted;
  // Not FUSE_CAP_EXPLICIT_INVAL_DATA: a kernel that hears of another size cuts its pages to it a
  // moment later, when they may hold more already. It then has to read them anew.
  connection.want &= ~(FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_AUTO_INVAL_DATA |
                       FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_WRITEBACK_CACHE |
                       FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
  connection.max_write = kMaxIoBytes;
  connection.max_readahead = kMaxIoBytes;
  connection.max_background = kMaxBackground;
  connection.congestion_threshold = kMaxBackground * 3 / 4;
  connection.time_gran = 1;
}

void Mount::attach(ContainerId container, const std::string& name, NodeId home) {
  const std::lock_guard guard(mutex_);
  attachments_[name] = {container, home};
}

void Mount::detach(ContainerId container) {
  const std::lock_guard guard(mutex_);
  for (auto it = attachments_.begin(); it != attachments_.end();) {
    const auto entry = it++;
    if (entry->second.container != container) continue;
    home_down(entry->second.home);
    // On another thread: this waits for those who look for a name in the mount's own folder.
    post_drop([this, name = entry->first] {
      static_cast<void>(fuse_lowlevel_notify_inval_entry(session_, InodeTable::kRootInode,
                                                         name.c_str(), name.size()));
    });
    attachments_.erase(entry);
  }
}

Mount& Mount::of(fuse_req_t req) { return *static_cast<Mount*>(fuse_req_userdata(req)); }

void Mount::put_caller(fuse_req_t req, Request& request, bool groups) {
  const fuse_ctx& context = *fuse_req_ctx(req);
  peer::FileCaller& caller = *request.mutable_caller();
  caller.set_uid(context.uid);
  caller.set_gid(context.gid);
  caller.set_pid(static_cast<std::uint32_t>(context.pid));
  if (!groups || context.uid == 0) return;
  std::array<gid_t, kMaxGroupsAsked> list{};
  int count = fuse_req_getgroups(req, static_cast<int>(list.size()), list.data());
  count = std::min(count, static_cast<int>(list.size()));
  for (int i = 0; i < count; ++i) caller.add_groups(list[static_cast<std::size_t>(i)]);
}

bool Mount::ask(fuse_req_t req, fuse_ino_t inode, FileOp op, Request request, Done done,
                bool groups) {
  if (inode == InodeTable::kRootInode) {
    // The folder of attachments changes by gobctl only.
    sent(fuse_reply_err(req, EPERM));
    return false;
  }
  const auto remote = inodes_.find(inode);
  if (!remote) {
    sent(fuse_reply_err(req, ESTALE));
    return false;
  }
  request.set_op(static_cast<std::uint32_t>(op));
  request.set_incarnation(remote->incarnation);
  request.set_file(remote->file);
  put_caller(req, request, groups);
  client_.call(remote->home, std::move(request), std::move(done));
  return true;
}

void Mount::ask_opened(fuse_req_t req, const Opened& file, FileOp op, Request request, Done done) {
  request.set_op(static_cast<std::uint32_t>(op));
  request.set_incarnation(file.remote.incarnation);
  request.set_file(file.remote.file);
  request.set_handle(file.handle);
  put_caller(req, request, false);  // what may be done was settled when it was opened
  client_.call(file.remote.home, std::move(request), std::move(done));
}

Mount::Done Mount::just_error(fuse_req_t req) {
  return [req](const Reply& reply) { sent(fuse_reply_err(req, static_cast<int>(reply.error()))); };
}

bool Mount::fill_entry(NodeId home, const Reply& reply, fuse_ino_t folder, const std::string& name,
                       fuse_entry_param& out) {
  if (reply.error() != 0 || reply.file() == 0) return false;
  out = {};
  out.ino = inodes_.enter({home, reply.incarnation(), reply.file()});
  inodes_.note_name(out.ino, folder, name);
  out.attr = to_stat(reply.attributes());
  return true;
}

Mount::Done Mount::entry(fuse_req_t req, NodeId home, fuse_ino_t folder, const char* name) {
  return [this, req, home, folder, name = std::string(name)](const Reply& reply) {
    fuse_entry_param out{};
    if (!fill_entry(home, reply, folder, name, out)) {
      sent(fuse_reply_err(req, reply.error() != 0 ? static_cast<int>(reply.error()) : EIO));
      return;
    }
    give_attributes(req, {home, reply.incarnation(), reply.file()}, reply,
                    [this, req, out, folder](const Reply& current) mutable {
                      const int error = static_cast<int>(current.error());
                      if (error == 0) out.attr = to_stat(current.attributes());
                      if (current.keep()) out.attr_timeout = config_.kept_seconds;
                      // An attachment changes by gobd alone.
                      if (folder == InodeTable::kRootInode)
                        out.entry_timeout = config_.kept_seconds;
                      inodes_.note_told(out.ino);
                      // A program that was killed meanwhile takes nothing.
                      const bool taken = sent(error != 0 ? fuse_reply_err(req, error)
                                                         : fuse_reply_entry(req, &out));
                      if (!taken || error != 0) forget_one(out.ino, 1);
                    });
  };
}

void Mount::forget_one(fuse_ino_t inode, std::uint64_t lookups) {
  // Before it can be found and opened anew: what that learns must stay.
  const auto gone = inodes_.forget(inode, lookups, [this](const RemoteFile& remote) {
    leases_.forget(remote);
    const std::lock_guard guard(containers_mutex_);
    if (const auto known = container_of_.extract(remote)) containers_.erase(known.mapped());
  });
  if (!gone) return;
  fetch_ahead_.forget(inode);
  give_back(*gone);
}

void Mount::give_back(const InodeTable::Gone& gone) {
  peer::FileForget forgotten;
  forgotten.set_incarnation(gone.remote.incarnation);
  forgotten.add_files(gone.remote.file);
  forgotten.add_counts(gone.references);
  client_.forget(gone.remote.home, std::move(forgotten));
}

fuse_lowlevel_ops Mount::operations() {
  fuse_lowlevel_ops table{};
  table.init = [](void* self, fuse_conn_info* connection) {
    static_cast<Mount*>(self)->init(*connection);
  };
  table.lookup = lookup;
  table.forget = forget;
  table.forget_multi = forget_multi;
  table.getattr = getattr;
  table.setattr = setattr;
  table.readlink = readlink;
  table.mknod = mknod;
  table.mkdir = mkdir;
  table.unlink = unlink;
  table.rmdir = rmdir;
  table.symlink = symlink;
  table.rename = rename;
  table.link = link;
  table.open = open_file;
  table.create = create;
  table.read = read;
  table.write = write;
  table.flush = flush;
  table.release = release;
  table.fsync = fsync;
  table.opendir = opendir;
  table.readdir = readdir;
  table.releasedir = releasedir;
  table.fsyncdir = fsyncdir;
  table.statfs = statfs;
  table.access = access;
  table.setxattr = setxattr;
  table.getxattr = getxattr;
  table.listxattr = listxattr;
  table.removexattr = removexattr;
  table.getlk = getlk;
  table.setlk = setlk;
  table.flock = flock;
  table.fallocate = fallocate;
  table.copy_file_range = copy_file_range;
  table.lseek = lseek;
  table.ioctl = ioctl;
  return table;
}

}  // namespace gob::file
