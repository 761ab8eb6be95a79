// CommonLosses: losses (common_loss.h) under way in threads of their own. A process may take long
// to stop, and whoever looks after others goes on meanwhile. One thread calls.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <vector>

#include "libgob/base/result.h"

namespace gob::migration {

class CommonLosses {
 public:
  static Result<CommonLosses> create();
  // Waits for those that have begun; others never will.
  ~CommonLosses();
  CommonLosses(CommonLosses&&) noexcept;
  CommonLosses& operator=(CommonLosses&&) = delete;

  // `then` is called by reap() when nothing of containers is left in any of these.
  void begin(std::vector<pid_t> pids, std::function<void()> then);
  // Readable when reap() has something to do.
  [[nodiscard]] int ended() const;
  void reap();
  [[nodiscard]] bool idle() const;

 private:
  struct Work;
  explicit CommonLosses(std::unique_ptr<Work> work);
  std::unique_ptr<Work> work_;
};

}  // namespace gob::migration
