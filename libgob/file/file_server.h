// FileServer: the home's side of shared files. It does what programs on any node ask for on the
// host's file system, with the rights of the program, below the folders that were attached, and
// never above them: an entry is always opened by one name relative to a descriptor, and links are
// handed out, not followed.
//
// Threads: requests may come from any thread; they are done on threads of its own, which a slow
// disk may block, and answered there.
#pragma once

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "libgob/file/failure_log.h"
#include "libgob/file/file_message.h"
#include "libgob/file/file_store.h"
#include "libgob/file/file_table.h"
#include "libgob/file/last_writes.h"
#include "libgob/file/removal_watch.h"
#include "libgob/file/worker_pool.h"

namespace gob::file {

class FileServer {
 public:
  using Answer = std::function<void(peer::FileReply)>;

  // `incarnation`: what makes numbers of an earlier life of this node recognisable.
  // `store` outlives the server.
  FileServer(NodeId self, std::uint64_t incarnation, std::chrono::milliseconds timeout,
             FileStore& store);
  ~FileServer() { stop(); }
  FileServer(const FileServer&) = delete;
  FileServer& operator=(const FileServer&) = delete;

  Status start();
  // Waits for what is being done; nothing is answered after this.
  void stop() {
    pool_.stop();
    sync_pool_.stop();
    removals_.stop();
  }

  // Whether `path` is something that can be attached: an absolute path of a folder or a regular
  // file that this process may open. Waits for the disk.
  [[nodiscard]] static Result<UniqueFd> open_root(const std::string& path);
  // The same on another thread, which calls `done`: is it a folder, or (`folder` false) a file?
  void probe(const std::string& path, bool folder, std::function<void(Status)> done);
  // From now on the nodes reach what is at `path` as `attached`. Opened when first asked for, so
  // that a disk which is slow or gone holds up nobody but those who ask.
  void attach(ContainerId attached, const std::string& path);
  // Whoever asks for something below it from now on gets ESTALE.
  void detach(ContainerId attached);

  // The file of a container that an earlier life of this node provided (FileStore::provide), for
  // reading and writing. kNotFound: it is gone, or was never mapped for writing.
  void reopen(const std::string& source, std::function<void(Result<UniqueFd>)> done);

  // `request` was checked. `answer` is called exactly once, later or at once, on any thread; not
  // for a release, nor when the node has gone: its next life counts its requests anew.
  void handle(NodeId from, peer::FileRequest request, Answer answer);
  void forget(NodeId from, const peer::FileForget& forget);
  // The request waits for a lock no more: EINTR, unless it was granted before.
  void cancel(NodeId from, std::uint64_t request);
  // The node has given a lease back.
  void revoked(NodeId from, const peer::FileRevoked& revoked);
  // The node is gone: its references, open files and locks end.
  void drop_node(NodeId node);

  // Has written to the disk what programs, on any node, wrote into mapped files before the call;
  // also into those that nobody knows any more. Which failed is in the log.
  void write_all_back(std::function<void()> done);
  // By which attachment the file of FileStore::provide() was first reached; none, if nothing finds
  // it again.
  [[nodiscard]] static std::optional<ContainerId> attachment_of(const std::string& source);
  // Held while a file of reopen() is written: who ends the attachment waits for it, and who opens
  // or cuts the file. What was written before must not come over what is written from now on.
  [[nodiscard]] std::shared_ptr<LastWrites::Write> reopened(const std::string& source);
  // Calls `done` when what was written into it is on the disk; never, once this ends.
  void sync_reopened(std::shared_ptr<UniqueFd> file, std::function<void(const Status&)> done);

  [[nodiscard]] const FileTable& table() const { return table_; }

 private:
  struct Root {
    std::string path;
    std::shared_ptr<UniqueFd> fd;  // null until it was first asked for
  };
  struct Job;  // one request on its way

  using Request = peer::FileRequest;
  using Reply = peer::FileReply;

  struct Asked {
    std::shared_ptr<const Life> from;
    Request request;
    Answer answer;
  };

  // file_server.cc
  [[nodiscard]] WorkerPool& pool_of(const Request& request);
  void work(const Life& from, const Request& request, Reply& reply);
  int root(const Life& from, const Request& request, Reply& reply);
  // A program is told of a failure that the host's file system knows nothing of.
  void log_failure(const char* kind, const File& file, const Asked& asked, const std::string& why);
  [[nodiscard]] int adopt(const Life& from, ContainerId attached, const File* folder, UniqueFd path,
                          std::shared_ptr<File>& file);
  int give(const Life& from, const File& parent, UniqueFd path, Reply& reply);
  int fill(const File& file, Reply& reply) const;

  // file_server_names.cc: entries of folders. Each gives 0 or an errno.
  int lookup(const Life& from, File& folder, const Request& request, Reply& reply);
  void lease_name(const Life& from, File& folder, const Request& request, Reply& reply);
  void change_names(const std::shared_ptr<Asked>& asked,
                    const std::vector<std::shared_ptr<File>>& folders,
                    const std::function<void()>& made);
  [[nodiscard]] std::vector<std::shared_ptr<File>> renamed_in(const Asked& asked) const;
  int make_node(const Life& from, File& folder, const Request& request, Reply& reply);
  int make_folder(const Life& from, File& folder, const Request& request, Reply& reply);
  int remove(const File& folder, const Request& request, int flags) const;
  int make_link(const Life& from, File& folder, const Request& request, Reply& reply);
  int rename(const File& folder, const Request& request, Reply& reply) const;
  int link(const Life& from, const File& file, const Request& request, Reply& reply);
  int read_link(const File& file, Reply& reply) const;
  int open_folder(const Life& from, const std::shared_ptr<File>& file, Reply& reply);
  int read_folder(OpenFile& folder, const Request& request, Reply& reply) const;

  // file_server_attributes.cc
  int set_attributes(const Life& from, const File& file, const Request& request, Reply& reply);
  int may_access(const File& file, const Request& request) const;
  int xattr(const File& file, const Request& request, Reply& reply) const;
  int space(const File& file, Reply& reply) const;

  // file_server_data.cc
  int open(const Life& from, const std::shared_ptr<File>& file, const Request& request,
           Reply& reply);
  void let_read(const Life& from, File& file, Reply& reply);
  int create(const Life& from, File& folder, const Request& request, Reply& reply);
  int read(const OpenFile& opened, const Request& request, Reply& reply) const;
  int write(const OpenFile& opened, const Request& request, Reply& reply) const;
  int copy_range(const Life& from, const OpenFile& opened, const Request& request,
                 Reply& reply) const;

  // file_server_changes.cc
  void dispatch(const std::shared_ptr<Asked>& asked);
  void answer_now(const std::shared_ptr<Asked>& asked);
  void answer_done(const std::shared_ptr<Asked>& asked, Reply reply);
  void answer_settled(const std::shared_ptr<Asked>& asked, const std::shared_ptr<File>& file,
                      Reply reply);
  struct Effect {
    std::shared_ptr<File> file;  // null: no bytes change
    bool resizes = false;        // or may do so
    FileRange range;
  };
  [[nodiscard]] Effect effect_of(const Asked& asked) const;
  void make_change(const std::shared_ptr<Asked>& asked, const Effect& effect);
  void apply(const std::shared_ptr<Asked>& asked, const Effect& effect,
             const std::function<void(Reply)>& applied);
  void apply_plain(const std::shared_ptr<Asked>& asked, const Effect& effect,
                   const std::function<void(Reply)>& applied);
  void resize(const std::shared_ptr<File>& file,
              const std::function<void(const std::function<void()>&)>& change);
  void tell_size(File& file, ContainerId container);
  void resume(ChangeGate::Works works);
  void take_back(const File& file, const ChangeGate::Begun& begun);
  void end_change(const std::shared_ptr<File>& file, std::uint64_t number);
  void begin_later(const File& file, ChangeGate::Begun& begun);
  void lease(const std::shared_ptr<Asked>& asked, const std::shared_ptr<File>& file);
  void let_go_changes(File& file, NodeId node);
  [[nodiscard]] static bool is_kept(File& file);
  void take_attributes_back(const std::shared_ptr<File>& file, const std::function<void()>& then);
  [[nodiscard]] std::vector<std::shared_ptr<File>> touched_by(const Asked& asked) const;

  // file_server_mapped.cc
  void map(const std::shared_ptr<Asked>& asked);
  [[nodiscard]] std::vector<std::shared_ptr<File>> mapped() const;
  [[nodiscard]] bool begin_plain(File& file, const std::function<void()>& by_pages);
  static void end_plain(File& file);
  [[nodiscard]] bool needs_file_current(const Asked& asked) const;
  void make_file_current(const std::shared_ptr<Asked>& asked);
  void begin_mapped(const std::shared_ptr<Asked>& asked, const Effect& effect, bool alone,
                    const std::function<void(Reply)>& applied);
  void apply_mapped(const std::shared_ptr<Asked>& asked, const Effect& effect, bool alone,
                    const std::function<void(Reply)>& applied);
  void end_turn(File& file);
  void write_through(const std::shared_ptr<Asked>& asked, const std::shared_ptr<File>& file,
                     FileRange range, const std::function<void(int)>& end);
  int make_room(const Request& request, const OpenFile& opened, std::uint64_t& offset);
  void clear_behind(ContainerId container, std::uint64_t size, std::uint64_t end,
                    const std::function<void()>& then, const FileData::Done& failed);
  // Zeros, then the bytes of a write: places in a container, done one after the other.
  struct Piece {
    std::uint64_t offset;
    std::span<const std::byte> bytes;
  };
  void write_pieces(ContainerId container, std::vector<Piece> pieces, FileData::Done done);

  // file_server_write_back.cc
  void write_back(const std::shared_ptr<Asked>& asked);
  void write_back(const std::shared_ptr<File>& file, bool again, const std::shared_ptr<Part>& part);
  [[nodiscard]] static Status sync(const File& file);
  void write_last(const std::shared_ptr<File>& file, const FileTable::Attachments& attachments);

  // file_server_containers.cc
  int need_container(File& file);
  [[nodiscard]] bool waits_for_last_write(const std::shared_ptr<Asked>& asked);
  void forgotten(File& file, const FileTable::Attachments& attachments);
  void ask_to_forget(const File& file);
  void make_room();
  void look_for_names(std::uint64_t number);
  void look_for_names(File& file);
  [[nodiscard]] std::uint64_t removed_by(const Asked& asked) const;

  // file_server_locks.cc
  bool locks(const Life& from, const Request& request, const Answer& answer);
  static int hand_over(const Life& from, const Request& request, LockTable& locks, Reply& reply);
  void grant(File& file);

  const NodeId self_;
  const std::uint64_t incarnation_;
  const std::chrono::milliseconds timeout_;
  FileStore& store_;
  FailureLog log_;
  WorkerPool pool_;
  WorkerPool sync_pool_;  // what waits for a disk to have all of a file: nobody else waits for that
  RemovalWatch removals_;
  LastWrites last_writes_;
  std::atomic<std::uint64_t> requests_ = 0;
  std::atomic<std::size_t> containers_ = 0;
  std::atomic<bool> room_said_ = false;
  std::atomic<std::chrono::steady_clock::rep> next_room_ = 0;  // not before may any be made again
  FileTable table_;
  std::mutex mutex_;
  std::map<ContainerId, Root> roots_;              // guarded by mutex_
  std::map<NodeId, std::shared_ptr<Life>> lives_;  // guarded by mutex_
  struct Waiting {
    std::shared_ptr<File> file;
    Answer answer;
  };
  // Requests that wait for locks, and those that shall not; guarded by mutex_, which is taken after
  // a file's locks_mutex.
  std::map<std::pair<NodeId, std::uint64_t>, Waiting> waiting_;
  std::deque<std::pair<NodeId, std::uint64_t>> cancelled_;
};

// A number for a file as programs see it (st_ino): the host's, or for another file system mounted
// below the attached folder one that cannot be mistaken for it. Of a regular file it is the folder
// by which it was first reached that counts.
[[nodiscard]] std::uint64_t visible_inode(const File& file, dev_t device, ino_t inode);
[[nodiscard]] std::uint64_t size_of(const File& file);
// O_SYNC or O_DSYNC: what was written is on the disk when the call returns.
[[nodiscard]] bool is_synchronous(int fd);
// The path by which the kernel opens what an O_PATH descriptor stands for, following nothing else.
[[nodiscard]] std::string descriptor_path(int fd);
// Where the file is now, for the log.
[[nodiscard]] std::string place_of(const File& file);

}  // namespace gob::file
