// JoinedLocks: the locks of a migrant, at its target, while it and the process at the source stand
// still: both hold them. One thread.
#pragma once

#include <sys/types.h>

#include <utility>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/file/lock_ioctl.h"
#include "libgob/migration/migration.pb.h"

namespace gob::migration {

class JoinedLocks {
 public:
  // Takes what the source offers, for the restored processes below `root`. If this ends without
  // moved(), the locks end with them.
  static Result<JoinedLocks> join(pid_t root, const Images& images);
  // The source is given up, the process about to run: the source holds nothing any more. A home
  // that does not answer hears it from the end of the source's process.
  void moved();
  [[nodiscard]] std::size_t size() const { return all_.size(); }

 private:
  struct Joined {
    UniqueFd file;  // the migrant's open file
    file::LockOffer from;
  };
  std::vector<Joined> all_;
};

}  // namespace gob::migration
