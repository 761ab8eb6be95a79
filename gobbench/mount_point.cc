#include "gobbench/mount_point.h"

#include <sys/mount.h>

namespace gob::bench {

MountPoint::~MountPoint() {
  // Never recursively: whatever may still be mounted there are somebody's files.
  if (!path_.empty()) static_cast<void>(::umount2(path_.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW));
}

}  // namespace gob::bench
