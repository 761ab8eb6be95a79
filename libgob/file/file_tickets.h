// FileTickets: how a program turns an open file of the mount into the right to map its container.
// The program asks the mount by ioctl(2) on its descriptor, whose rights the kernel and the home
// have checked when it was opened, and gets a number that nobody can guess; gobd takes it back,
// once, over the control socket. Any thread.
#pragma once

#include <sys/ioctl.h>

#include <array>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

#include "libgob/base/ids.h"
#include "libgob/base/result.h"

namespace gob::file {

using FileTicket = std::array<std::uint64_t, 2>;

// On a descriptor for reading and writing. EACCES: it is for one of the two; ENODEV: not a regular
// file; ENOTTY: no file of a gob mount.
inline constexpr unsigned long kIoctlTicket = _IOR(0xB9, 1, FileTicket);

struct MappableFile {
  ContainerId container;
  std::uint64_t size_bytes = 0;  // when the ticket was given
};

class FileTickets {
 public:
  Result<FileTicket> give(const MappableFile& file);
  std::optional<MappableFile> take(const FileTicket& ticket);

 private:
  std::mutex mutex_;
  std::deque<std::pair<FileTicket, MappableFile>> given_;  // guarded by mutex_, oldest first
};

}  // namespace gob::file
