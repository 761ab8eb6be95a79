// Nodes: real gobd processes on this machine for one test, in a folder and on ports of their own;
// and programs that use them, each a child process. Not thread-safe: forks.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/gob.hpp"
#include "libgob/runtime/config.h"
#include "libgob/runtime/control.pb.h"

namespace gob {

class Nodes {
 public:
  // Settings for all nodes; names n1, n2, ... and addresses are filled in, and the transport if the
  // environment variable GOB_TEST_TRANSPORT names one. `gobd`: the program. `adjust` may change the
  // settings of a single node.
  using Adjust = std::function<void(unsigned node, DaemonConfig& settings)>;
  Nodes(unsigned count, DaemonConfig settings, std::string gobd = GOBD, Adjust adjust = {});
  // Ends what still runs, shows the logs if the test has failed, removes the folder.
  ~Nodes();
  Nodes(const Nodes&) = delete;
  Nodes& operator=(const Nodes&) = delete;

  // Starts a node; wait_ready() then waits until all that were started serve.
  void start(unsigned node);
  void wait_ready();
  void kill_node(unsigned node);  // SIGKILL, and reaps it
  int stop_node(unsigned node);   // SIGTERM; its exit status, or -1
  int await_end(unsigned node);   // that comes by itself; likewise
  // SIGSTOP; false unless all its threads stand when this returns. resume(): SIGCONT.
  [[nodiscard]] bool suspend(unsigned node);
  [[nodiscard]] bool resume(unsigned node);
  [[nodiscard]] pid_t pid_of(unsigned node) const { return pids_[node]; }
  [[nodiscard]] bool runs(unsigned node) const { return pids_[node] > 0; }
  [[nodiscard]] std::string socket_of(unsigned node) const;
  // Where the node mounts attached files, if settings.mount is set (to anything).
  [[nodiscard]] std::string mount_of(unsigned node) const;
  // Asks a node to attach a folder or a file (gobctl attach --tree, --file); an empty text if it
  // did, else why not.
  [[nodiscard]] std::string attach(unsigned node, const std::string& name,
                                   const std::string& path) const;
  // gobctl attach --segment; `joined`, if not null, hears whether the container was there.
  [[nodiscard]] std::string attach_segment(unsigned node, const std::string& name, int key,
                                           bool* joined = nullptr) const;
  // gobctl attach --file --link.
  [[nodiscard]] std::string link_file(unsigned node, const std::string& name,
                                      const std::string& path, bool* joined = nullptr) const;
  // `lossy`: gobctl detach --lossy. Tells the first pages and lengths of what was lost.
  using Lost = std::vector<std::pair<std::uint64_t, std::uint64_t>>;
  [[nodiscard]] std::string detach(unsigned node, const std::string& name, bool lossy = false,
                                   Lost* lost = nullptr) const;
  // gobctl sync.
  [[nodiscard]] std::string sync(unsigned node, const std::string& name) const;
  [[nodiscard]] std::uint16_t port_of(unsigned node) const { return settings_.nodes[node].port; }
  [[nodiscard]] std::string log_of(unsigned node) const;
  // What `gobctl stat` asks for.
  [[nodiscard]] Result<control::StatReply> stat(unsigned node) const;
  [[nodiscard]] const std::string& folder() const { return folder_; }
  [[nodiscard]] unsigned count() const { return static_cast<unsigned>(pids_.size()); }

  using Program = std::function<bool(gobelins::Connection&)>;
  // Starts a program on a node; its exit status is 0 if `program` returns true. Exceptions end it
  // with 1, a SIGBUS that nobody catches with that signal.
  pid_t spawn(unsigned node, const Program& program);
  // The same, and waits for it.
  bool run(unsigned node, const Program& program);
  // On every node at once; `program` gets its rank, which is the node's number.
  bool run_on_all(const std::function<bool(gobelins::Connection&, unsigned rank)>& program);
  // Waits for a child: its exit status, 128 + signal, or -1 when it did not end in time (it is
  // killed then).
  static int wait_for(pid_t pid, int timeout_ms);

 private:
  DaemonConfig settings_;
  const std::string gobd_;
  const Adjust adjust_;
  std::string folder_;
  std::string mounts_;  // apart from folder_, which is removed with all that is in it
  std::vector<pid_t> pids_;
  int notify_ = -1;
  unsigned not_ready_ = 0;
};

// Ends when `access` returns or raises SIGBUS: true in the latter case.
bool gets_sigbus(const std::function<void()>& access);

}  // namespace gob
