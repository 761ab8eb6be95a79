// Which locks on files (fcntl(2), flock(2)) processes hold, and which of them can go along when
// they move: those on files of gob mounts, which the files' homes keep (docs/decisions/0045). For
// root, at the source. Functions over /proc and the mounts; any thread.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/migration/migration.pb.h"

namespace gob::migration {

struct HeldLocks {
  std::vector<HeldLock> going;  // by the numbers of processes here
  struct Staying {
    std::string path;
    std::string why;
  };
  std::vector<Staying> staying;
};

// `covers`: what they see of other nodes; `target`: the node to which they go. Certain only if the
// processes stand still. Asks the homes of files in gob mounts that are locked.
HeldLocks held_locks(const std::vector<pid_t>& processes, const std::vector<Cover>& covers,
                     const std::string& target);
// They may be held on node number `to`, too, from now on. After an error some may, until
// keep_locks().
Status offer_locks(const std::vector<HeldLock>& locks, unsigned to);
// They stay: nothing is offered any more, and held elsewhere. Gives up after `limit`; then that
// ends with what the target has made.
void keep_locks(pid_t root, std::chrono::milliseconds limit);
// "flock on /a/file", "bytes 0 to 99 of /a/file, for reading".
std::string describe(const HeldLock& lock);

}  // namespace gob::migration
