// Starting gobd of some nodes of a development cluster and waiting until each says that it is
// ready: an event for each, never a look every so often. Used by one thread, which must have no
// others.
#pragma once

#include <signal.h>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "gobctl/cluster_dir.h"
#include "gobctl/notify_socket.h"
#include "gobctl/process.h"
#include "libgob/base/result.h"

namespace gob::ctl {

class Startup {
 public:
  // `gobd`: path of the program. Interrupts (SIGINT, SIGTERM, SIGHUP) end a wait from now on.
  static Result<Startup> prepare(const ClusterDir& dir, std::string gobd);
  Startup(Startup&&) = default;
  Startup& operator=(Startup&&) = delete;
  // Kills what was started, unless keep() was called.
  ~Startup();

  // Starts the gobd of a node that has its configuration.
  Status start(const std::string& node, const std::string& network_namespace);
  // Until all are ready. `on_ready` is told the node and the time since its start. The error of a
  // gobd that ends or does not get ready shows the end of its log.
  Status wait(std::chrono::milliseconds timeout,
              const std::function<void(const std::string&, std::chrono::milliseconds)>& on_ready);
  // From here on they run on without gobctl.
  void keep() { started_.clear(); }

 private:
  using Clock = std::chrono::steady_clock;
  struct Started {
    std::string node;
    Process process;
    Clock::time_point since;
    bool ready = false;
    std::string status;
  };
  Startup(const ClusterDir& dir, std::string gobd, NotifySocket notify, UniqueFd interrupts)
      : dir_(dir),
        gobd_(std::move(gobd)),
        notify_(std::move(notify)),
        interrupts_(std::move(interrupts)) {}
  Error not_ready(const Started& node, const std::string& why) const;

  ClusterDir dir_;
  std::string gobd_;
  NotifySocket notify_;
  UniqueFd interrupts_;
  std::vector<Started> started_;
};

// The gobd to start: `asked`, else the one beside this gobctl (built or installed together), else
// the first in $PATH.
Result<std::string> find_gobd(const std::string& asked);

}  // namespace gob::ctl
