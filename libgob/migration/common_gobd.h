// KeepersGobd: what a guard (common_guard.h) has to know of its node's gobd when its keeper has
// died. One thread.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "libgob/migration/common_loss.h"
#include "libgob/runtime/control_client.h"

namespace gob::migration {

// Some gobd has this socket. One may have much to do, or no descriptor for another connection: that
// is no death.
bool gobd_lives(const std::string& gobd);

// The one that the keeper had: if another has the same socket later, that knows nothing of its
// memory.
class KeepersGobd {
 public:
  // As long as the keeper lives.
  explicit KeepersGobd(const std::string& path) : path_(path) { connect(); }
  // The others: when it has died.
  Gobd state();
  // Lets gobd let go of the keeper's mappings, or waits some seconds for that.
  void let_forget();
  // A socket that hangs up when it ends; -1: there is none any more.
  int fd() { return client_ && !is_gone() ? client_->fd() : -1; }

 private:
  void connect();
  bool is_gone();

  const std::string path_;
  std::unique_ptr<ControlClient> client_;  // none: it had no room for one at first
  bool gone_ = false;
  std::chrono::steady_clock::time_point next_look_{};
  bool forgot_ = false;
};

}  // namespace gob::migration
