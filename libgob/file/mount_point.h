// The folder where a gobd mounts: found free, freed from what a dead gobd left, let go at the end.
#pragma once

#include <sys/types.h>

#include <string>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"

namespace gob::file {

// Whether the device is a mount of a gobd, of this node or of another one on this machine. Asks no
// file system.
[[nodiscard]] bool is_mount_of_gob(dev_t device);

// Sees that a file system can be mounted at `path`: an existing folder; a FUSE mount there whose
// daemon is dead is unmounted. A living mount is refused.
Status prepare_mount_point(const std::string& path);

// Has the kernel read up to `bytes` ahead of programs that read a file in order (128 KiB by
// itself). False if it does not let this process say so.
bool set_read_ahead(const std::string& path, std::size_t bytes);

// A descriptor that ends the FUSE connection of the mount at `path` when something is written to
// it, and does nothing once that connection is gone. None: errno says why.
UniqueFd open_abort(const std::string& path);

// Ends the FUSE connection of the mount at `path` whoever uses it, and takes the mount out of the
// tree. Requests that its kernel side waits for fail; programs get ENOTCONN.
void abort_mount(const std::string& path);

}  // namespace gob::file
