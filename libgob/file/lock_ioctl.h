// How gobmigrate takes the locks of a process along (docs/decisions/0045): by ioctl(2) on a file
// that is open in a gob mount, for root. EPERM: not root; ENOTTY: no file of a gob mount; EIO: its
// home does not answer. Values: no thread affinity.
#pragma once

#include <sys/ioctl.h>

#include <cstdint>

namespace gob::file {

enum class LockKind : std::uint32_t {
  kRecord,    // of fcntl(2): a process has it,
  kOpenFile,  // likewise (F_OFD_SETLK), and flock(2): an open file has it
  kFlock,
};
struct HeldRange {
  std::uint64_t owner = 0;  // as this node's kernel names it
  std::uint64_t first = 0;
  std::uint64_t last = 0;  // inclusive; all ones: to the end
  std::uint32_t type = 0;  // F_RDLCK, F_WRLCK
  std::uint32_t pid = 0;   // the process that took it, as gobd sees it
  LockKind kind = LockKind::kRecord;
  std::uint32_t padding = 0;
};
inline constexpr std::size_t kMostHeldRanges = 256;
struct HeldRanges {
  std::uint64_t file = 0;  // with `home`: of record locks, which one it is, however it was opened
  std::uint32_t home = 0;  // a node
  std::uint32_t count = 0;
  HeldRange ranges[kMostHeldRanges];
};
// The locks that somebody took through this open file, of whatever process. Those of the open file
// itself are told from record locks only if the same thread has just asked for one by F_OFD_GETLK.
// E2BIG: more than kMostHeldRanges.
inline constexpr unsigned long kIoctlHeldRanges = _IOR(0xB9, 2, HeldRanges);

struct LockOffer {
  std::uint64_t owner = 0;
  std::uint32_t node = 0;
  std::uint32_t flock = 0;  // 1: of flock(2)
};
// At the source: what `owner` holds may be held on `node`, too. ENOLCK: it holds nothing.
inline constexpr unsigned long kIoctlOfferLocks = _IOW(0xB9, 3, LockOffer);
// At the source: nothing is offered any more, and what was held elsewhere is no more.
inline constexpr unsigned long kIoctlKeepLocks = _IO(0xB9, 4);
// At the target: the file is locked in the place of `owner`, which is on `node`, from now on; by an
// `owner` of 0 no more. Such a lock that was not offered is refused (EAGAIN).
inline constexpr unsigned long kIoctlJoinLocks = _IOW(0xB9, 5, LockOffer);
// At the target: `owner` on `node` holds nothing any more, if it was offered to this node.
inline constexpr unsigned long kIoctlLocksMoved = _IOW(0xB9, 6, LockOffer);

}  // namespace gob::file
