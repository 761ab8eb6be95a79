// MountGuard: a process of its own that ends this node's FUSE connection when gobd is killed.
//
// A thread of gobd may be waiting in the kernel, where no signal reaches it, for what only gobd can
// answer: a page that is being read to be unlocked, or a file of this very mount to be closed. If
// gobd is killed then, that thread keeps its descriptors open, among them the one to /dev/fuse: the
// kernel sees a living daemon, and programs, that thread and the other nodes wait for ever. The
// guard hears of the end of the thread that started it, and lets go of whoever waits.
#pragma once

#include <sys/types.h>

#include <string>

#include "libgob/base/result.h"

namespace gob::file {

class MountGuard {
 public:
  // For the mount at `path`. Forks; the calling thread must live as long as gobd does. An error:
  // the kernel does not let this process end a connection (fusectl is not mounted, and it is not
  // root).
  static Result<MountGuard> start(const std::string& path);
  MountGuard() = default;
  MountGuard(MountGuard&& other) noexcept;
  MountGuard& operator=(MountGuard&& other) noexcept;
  // The mount was let go in good order: so is the guard.
  ~MountGuard();

 private:
  explicit MountGuard(pid_t pid) : pid_(pid) {}
  pid_t pid_ = -1;
};

}  // namespace gob::file
