// FileClient: a node's requests about files, wherever their home is, and the end of each: an
// answer, or EIO when the home is gone or does not answer in time. Any thread; callbacks run on the
// thread that brings the answer and must not block.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "libgob/base/ids.h"
#include "libgob/file/failure_log.h"
#include "libgob/file/file_message.h"
#include "libgob/file/inode_table.h"

namespace gob::file {

class FileClient {
 public:
  using Callback = std::function<void(const peer::FileReply&)>;
  // Takes a message to its node, on whatever thread; the answer, if there is one, comes back by
  // deliver(). False: it cannot be sent.
  using Send = std::function<bool(NodeId to, peer::FileBody body)>;

  // For the log: a node's name, and where a file was last found under the mount (empty: not known).
  struct Names {
    std::function<std::string(NodeId)> node;
    std::function<std::string(const RemoteFile&)> path;
  };

  // `timeout`: how long a home may take, except for a lock that somebody else holds.
  FileClient(std::chrono::milliseconds timeout, Send send);
  ~FileClient();
  FileClient(const FileClient&) = delete;
  FileClient& operator=(const FileClient&) = delete;

  [[nodiscard]] std::chrono::milliseconds timeout() const { return timeout_; }

  // Fills in the request's id, and returns it. `done` is called exactly once. What a home would
  // take for nonsense, and drop this node for, is not sent.
  std::uint64_t call(NodeId home, peer::FileRequest request, Callback done);
  // The caller of a request that waits for a lock gave up.
  void cancel(std::uint64_t id);
  void forget(NodeId home, peer::FileForget forget);
  // The kernel has let go of what a home asked for.
  void tell_revoked(const RemoteFile& file, std::uint64_t number);

  void deliver(NodeId from, const peer::FileReply& reply);
  // Nobody takes what a home handed out with an answer to `op`.
  void give_back(NodeId home, FileOp op, const peer::FileReply& reply);
  // Whether the node can be asked at all. What waits for a node that goes down ends with EIO.
  void node_up(NodeId node);
  void node_down(NodeId node);

  // Calls `work` after that time, if this is still there, on a thread of its own; it must not
  // block.
  void later(std::chrono::milliseconds delay, std::function<void()> work);

  void set_names(Names names);
  // A program gets EIO, or another error that no file system gave: says so in the log. `kind`: see
  // FailureLog. `why`: why, and what to do.
  void log_failure(const std::string& kind, const RemoteFile& file, const std::string& tried,
                   const std::string& why);

 private:
  using Clock = std::chrono::steady_clock;
  struct Pending {
    NodeId home;
    FileOp op;
    RemoteFile file;    // of the request
    std::string tried;  // in words
    Callback done;      // empty: given up, but what the answer hands out must be given back
    Clock::time_point deadline;
  };

  void watch();
  void fail(const Pending& pending, const char* kind, const std::string& why);

  const std::chrono::milliseconds timeout_;
  const Send send_;

  std::mutex mutex_;
  std::condition_variable wake_;
  // Guarded by mutex_:
  std::map<std::uint64_t, Pending> pending_;
  std::multimap<Clock::time_point, std::function<void()>> later_;
  std::map<NodeId, bool> up_;
  std::uint64_t last_id_ = 0;
  bool stopped_ = false;
  bool watcher_idle_ = false;  // it waits for no deadline
  bool failed_ = false;        // something, since the watcher looked at log_
  std::shared_ptr<const Names> names_ = std::make_shared<Names>();

  FailureLog log_;
  std::thread watcher_;
};

// What a caller sees of a request that could not be done.
[[nodiscard]] peer::FileReply failed_reply(int error);

}  // namespace gob::file
