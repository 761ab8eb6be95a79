// Mount: the cluster's attached files and folders as a file system of this node (FUSE, low level).
// Each operation becomes a request to the file's home and is answered when that is; no thread
// waits. The home is asked for names and attributes each time, but for folders that were found a
// moment ago (FolderNames), attachments, and attributes that the kernel may keep until their lease
// ends. Bytes are read from the file's container, by whatever node has them; the kernel keeps those
// of files that are opened for reading only, until they change on some node.
//
// Threads: the kernel's requests come on threads of the mount; the rest may be called by any
// thread.
#pragma once

#define FUSE_USE_VERSION 312
#include <fuse3/fuse_lowlevel.h>
#include <sys/stat.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "libgob/file/buffer_pool.h"
#include "libgob/file/fetch_ahead.h"
#include "libgob/file/file_client.h"
#include "libgob/file/file_tickets.h"
#include "libgob/file/folder_names.h"
#include "libgob/file/inode_table.h"
#include "libgob/file/lock_ioctl.h"
#include "libgob/file/lock_owners.h"
#include "libgob/file/mount_guard.h"
#include "libgob/file/size_leases.h"
#include "libgob/linker/file_data.h"

namespace gob::file {

class Mount final : private KernelCache {
 public:
  struct Config {
    std::string path;    // an empty folder
    std::string source;  // shown by findmnt(8)
    NodeId self;
    std::uint64_t fetch_whole_bytes = 0;  // files up to this size may be fetched whole
    unsigned threads = 4;
    // How long the kernel may keep what it is told to forget once it changes: attributes, which
    // programs of the home may change on its disk by themselves, and names of attachments.
    double kept_seconds = 1;
  };
  // Mounts. A mount that a gobd left behind when it died is taken away first. `client` and
  // `data` outlive the mount, and so does the calling thread, until gobd ends.
  static Result<std::unique_ptr<Mount>> open(const Config& config, FileClient& client,
                                             FileData& data);
  ~Mount() override;
  Mount(const Mount&) = delete;
  Mount& operator=(const Mount&) = delete;

  // Unmounts, also while programs use it: they get ENOTCONN from then on. Requests under way must
  // all be answered (FileClient) before the mount is destroyed.
  void stop();

  // What the mount's own folder shows.
  void attach(ContainerId container, const std::string& name, NodeId home);
  void detach(ContainerId container);

  // What is known of the home's files and folders is not to be relied on any more, but for sizes:
  // by these, what other nodes have of the files is read on.
  void home_down(NodeId home);
  // Nor are sizes: the home may have changed them without a word to this node. Before it is asked
  // for anything.
  void home_up(NodeId home);

  // A home wants to change the size of a file, or has changed its attributes.
  void revoke(NodeId home, const peer::FileRevoke& revoke);

  // A file has no name any more: the kernel is to forget the one that it knows.
  void forget_gone(NodeId home, const peer::FileGone& gone);

  // The file that the ticket was given for; none: it was not, or was taken before.
  std::optional<MappableFile> take_ticket(const FileTicket& ticket) {
    return tickets_.take(ticket);
  }

  // Where the file was last found, below the mount; empty: this node's kernel does not know it.
  [[nodiscard]] std::string path_of(const RemoteFile& file) const { return inodes_.path_of(file); }

  // In words, for the log: how data passes between kernel and gobd.
  [[nodiscard]] static std::string describe_data_path();

 private:
  struct Attachment {
    ContainerId container;
    NodeId home;
  };
  // What a program has open here: fuse_file_info::fh.
  struct Opened {
    RemoteFile remote;
    std::uint64_t handle = 0;
    ContainerId container;                  // none: its bytes are read at the home
    ReadAhead ahead = ReadAhead::kByOrder;  // kNone: it was opened by fetch_ahead_
  };
  // A read(2) on its way.
  struct Reading {
    fuse_req_t req = nullptr;
    fuse_ino_t inode = 0;
    Opened file;
    std::uint64_t offset = 0;
    std::size_t size = 0;
    Caching caching = Caching::kNone;
    BufferPool::Buffer bytes;  // room for `size`
    std::size_t length = 0;    // of what is there to be read
    unsigned tries = 0;
    bool noted = false;           // by fetch_ahead_
    SizeLeases::Lease held = {};  // serial 0: none
  };
  using Request = peer::FileRequest;
  using Reply = peer::FileReply;
  using Done = std::function<void(const Reply&)>;
  // Tells the kernel what to forget: pages, or a name. It keeps the thread that tells it waiting
  // while it reads one of the pages, and that read may wait for what another node says after a drop
  // of its own: so no drop ever waits for another, and there are as many threads as drops under way
  // at once.
  using Drop = std::function<void()>;

  Mount(Config config, FileClient& client, FileData& data)
      : config_(std::move(config)),
        client_(client),
        data_(data),
        leases_(2 * client.timeout()),
        fetch_ahead_(config_.path, config_.fetch_whole_bytes) {}
  void drop(ContainerId container, PageIndex first, std::uint64_t pages,
            std::function<void()> done) override;
  Status mount();
  void serve();
  void post_drop(Drop drop);
  void drop_pages(ContainerId container, PageIndex first, std::uint64_t pages);
  void notify();
  void forget_all_gone();
  void init(fuse_conn_info& connection);

  // mount.cc: what the operations share
  static Mount& of(fuse_req_t req);
  static Opened& opened(const fuse_file_info& info) { return *reinterpret_cast<Opened*>(info.fh); }
  // Who asks; with supplementary groups when the answer may depend on them.
  static void put_caller(fuse_req_t req, Request& request, bool groups);
  // Asks the home of `inode`. False, and answered, if the kernel's number means nothing here.
  bool ask(fuse_req_t req, fuse_ino_t inode, FileOp op, Request request, Done done,
           bool groups = true);
  void ask_opened(fuse_req_t req, const Opened& file, FileOp op, Request request, Done done);
  // Ends a request whose only result is whether it worked.
  static Done just_error(fuse_req_t req);
  // Ends one that found or made a file.
  Done entry(fuse_req_t req, NodeId home, fuse_ino_t folder, const char* name);
  bool fill_entry(NodeId home, const Reply& reply, fuse_ino_t folder, const std::string& name,
                  fuse_entry_param& out);
  void give_back(const InodeTable::Gone& gone);
  void forget_one(fuse_ino_t inode, std::uint64_t lookups);
  static fuse_lowlevel_ops operations();

  // mount_names.cc
  static void lookup(fuse_req_t req, fuse_ino_t parent, const char* name);
  void note_name(const RemoteFile& folder, const std::string& name, const Reply& reply);
  bool answer_known(fuse_req_t req, const RemoteFile& folder, const char* name);
  static void forget(fuse_req_t req, fuse_ino_t inode, std::uint64_t lookups);
  static void forget_multi(fuse_req_t req, size_t count, fuse_forget_data* forgets);
  static void readlink(fuse_req_t req, fuse_ino_t inode);
  static void mknod(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, dev_t device);
  static void mkdir(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode);
  static void unlink(fuse_req_t req, fuse_ino_t parent, const char* name);
  static void rmdir(fuse_req_t req, fuse_ino_t parent, const char* name);
  static void symlink(fuse_req_t req, const char* target, fuse_ino_t parent, const char* name);
  static void rename(fuse_req_t req, fuse_ino_t parent, const char* name, fuse_ino_t to_parent,
                     const char* to_name, unsigned flags);
  static void link(fuse_req_t req, fuse_ino_t inode, fuse_ino_t to_parent, const char* to_name);
  static void opendir(fuse_req_t req, fuse_ino_t inode, fuse_file_info* info);
  static void readdir(fuse_req_t req, fuse_ino_t inode, size_t size, off_t offset,
                      fuse_file_info* info);
  static void releasedir(fuse_req_t req, fuse_ino_t inode, fuse_file_info* info);
  static void fsyncdir(fuse_req_t req, fuse_ino_t inode, int data_only, fuse_file_info* info);
  void read_own_folder(fuse_req_t req, size_t size, off_t offset);

  // mount_attributes.cc
  static void getattr(fuse_req_t req, fuse_ino_t inode, fuse_file_info* info);
  static void setattr(fuse_req_t req, fuse_ino_t inode, struct stat* wanted, int set,
                      fuse_file_info* info);
  void ask_attributes(fuse_req_t req, fuse_ino_t inode, FileOp op, Request request, bool groups);
  static void statfs(fuse_req_t req, fuse_ino_t inode);
  static void access(fuse_req_t req, fuse_ino_t inode, int mask);
  static void setxattr(fuse_req_t req, fuse_ino_t inode, const char* name, const char* value,
                       size_t size, int flags);
  static void getxattr(fuse_req_t req, fuse_ino_t inode, const char* name, size_t size);
  static void listxattr(fuse_req_t req, fuse_ino_t inode, size_t size);
  static void removexattr(fuse_req_t req, fuse_ino_t inode, const char* name);

  // mount_files.cc
  static void open_file(fuse_req_t req, fuse_ino_t inode, fuse_file_info* info);
  static void create(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode,
                     fuse_file_info* info);
  static void read(fuse_req_t req, fuse_ino_t inode, size_t size, off_t offset,
                   fuse_file_info* info);
  static void write(fuse_req_t req, fuse_ino_t inode, const char* bytes, size_t size, off_t offset,
                    fuse_file_info* info);
  static void flush(fuse_req_t req, fuse_ino_t inode, fuse_file_info* info);
  static void release(fuse_req_t req, fuse_ino_t inode, fuse_file_info* info);
  static void fsync(fuse_req_t req, fuse_ino_t inode, int data_only, fuse_file_info* info);
  static void fallocate(fuse_req_t req, fuse_ino_t inode, int mode, off_t offset, off_t length,
                        fuse_file_info* info);
  static void copy_file_range(fuse_req_t req, fuse_ino_t inode, off_t offset, fuse_file_info* info,
                              fuse_ino_t to_inode, off_t to_offset, fuse_file_info* to_info,
                              size_t length, int flags);
  static void lseek(fuse_req_t req, fuse_ino_t inode, off_t offset, int whence,
                    fuse_file_info* info);
  static void ioctl(fuse_req_t req, fuse_ino_t inode, unsigned command, void* argument,
                    fuse_file_info* info, unsigned flags, const void* in, size_t in_bytes,
                    size_t out_bytes);
  void release_handle(const Opened& file, FileOp op);
  std::unique_ptr<Opened> make_opened(const RemoteFile& remote, const Reply& reply);
  void read_at_home(const std::shared_ptr<Reading>& reading);
  void read_container(const std::shared_ptr<Reading>& reading);
  void fail_reading(const std::shared_ptr<Reading>& reading, const Error& why);
  void kernel_has_none_of(const Reading& reading);
  void say_failed(const Reading& reading, const char* kind, const std::string& why);
  void ask_for_lease(const std::shared_ptr<Reading>& reading);
  void cut_created(fuse_req_t req, std::unique_ptr<Opened> file, fuse_ino_t inode,
                   std::function<void(std::unique_ptr<Opened>)> give);

  // mount_leases.cc
  void take_lease(const RemoteFile& remote, ContainerId container, const Reply& reply);
  void take_awaited_lease(Reading& reading, const Reply& reply);
  void let_go_of_lease(Reading& reading);
  // Calls `give` with the reply, or with a newer one, while the size in it is the file's: a kernel
  // cuts the pages that it has to the size that it is told.
  void give_attributes(fuse_req_t req, const RemoteFile& remote, const Reply& reply, Done give,
                       unsigned tries = 0);
  void tell_revoked(const RemoteFile& file, std::uint64_t number);
  void forget_attributes(const RemoteFile& file, const std::function<void()>& then,
                         unsigned tries = 0);

  // mount_locks.cc
  static void getlk(fuse_req_t req, fuse_ino_t inode, fuse_file_info* info, struct flock* lock);
  static void setlk(fuse_req_t req, fuse_ino_t inode, fuse_file_info* info, struct flock* lock,
                    int wait);
  static void flock(fuse_req_t req, fuse_ino_t inode, fuse_file_info* info, int operation);
  void set_lock(fuse_req_t req, fuse_ino_t inode, const Opened& file, peer::FileLock lock);
  void drop_locks(fuse_ino_t inode, const Opened& file, std::uint64_t owner, bool flock, Done done);

  // mount_hand_over.cc
  bool lock_ioctl(fuse_req_t req, unsigned command, const Opened& file, const void* in,
                  size_t in_bytes, size_t out_bytes);
  void list_locks(fuse_req_t req, const Opened& file);
  void tell_home(fuse_req_t req, const Opened& file, FileOp op, const LockOffer& offer);
  void keep_locks(fuse_req_t req, const Opened& file);
  void join_locks(fuse_req_t req, const Opened& file, const LockOffer& offer);

  // Constant after open().
  const Config config_;
  FileClient& client_;
  FileData& data_;
  fuse_session* session_ = nullptr;
  MountGuard guard_;
  bool stopped_ = false;
  std::vector<std::thread> threads_;

  static constexpr std::size_t kBuffersAtHand = 16;
  BufferPool buffers_{kMaxIoBytes, kBuffersAtHand};
  InodeTable inodes_;
  SizeLeases leases_;  // no answer comes later than a timeout of client_
  FolderNames names_;
  LockOwners lock_owners_;
  FetchAhead fetch_ahead_;
  FileTickets tickets_;
  std::mutex containers_mutex_;  // may be taken while the table of inodes is locked
  std::map<ContainerId, RemoteFile> containers_;    // guarded by containers_mutex_
  std::map<RemoteFile, ContainerId> container_of_;  // the reverse
  std::mutex drops_mutex_;
  std::condition_variable drops_changed_;
  std::deque<Drop> drops_;              // guarded by drops_mutex_
  std::deque<RemoteFile> gone_;         // the first is being forgotten; guarded by drops_mutex_
  bool notifiers_end_ = false;          // guarded by drops_mutex_
  std::size_t idle_notifiers_ = 0;      // guarded by drops_mutex_
  std::vector<std::thread> notifiers_;  // guarded by drops_mutex_ until they end

  std::mutex mutex_;
  std::map<std::string, Attachment> attachments_;  // guarded by mutex_
};

// Of fuse_reply_*: whether the kernel took the answer. If it did not, though somebody still waits
// for it, that is in the log.
bool sent(int result);

// Attributes as the kernel wants them.
[[nodiscard]] struct stat to_stat(const peer::FileAttributes& from);

}  // namespace gob::file
