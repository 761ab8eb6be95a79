// The interface of /dev/gob (kernel-patch/, include/uapi/linux/gob.h) as gobd uses it. Sizes are the
// kernel's: the ioctl numbers carry them.
#pragma once

#include <sys/ioctl.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace gob::abi {

inline constexpr unsigned kSlots = 256;    // requests under way at once
inline constexpr unsigned kRun = 64;       // pages in one Take
inline constexpr unsigned kDataPages = 4;  // pages of the mapping before the first data page

enum Op : std::uint32_t {
  kFirstTouch = 1,   // a page of a segment is not in memory
  kLookupPage = 2,   // a page of a file is not in memory
  kCopyOnWrite = 3,  // it is, and is about to be written
  kWritePage = 4,
};

struct Request {
  std::uint32_t slot;  // names the data page
  std::uint32_t op;
  std::uint32_t link;
  std::uint32_t write;  // kFirstTouch: it will be written
  std::uint64_t index;  // of the page
  std::uint64_t serial;
};

struct Ring {
  std::uint32_t tail;  // the kernel's
  std::uint32_t head;  // the daemon's
  std::array<std::uint32_t, 14> reserved;
  std::array<Request, kSlots> requests;
};
static_assert(offsetof(Ring, requests) == 64);

struct Attach {
  std::array<char, 16> name;
  std::uint32_t patience_ms;
  std::uint32_t links;
};

inline constexpr std::uint32_t kLinkKeep = 2;  // a file's pages stay in memory until they are taken

struct Link {
  std::int32_t fd;
  std::uint32_t flags;
  std::uint64_t address;
  std::uint64_t cookie;
  std::uint32_t id;
  std::uint32_t reserved;
};

inline constexpr std::uint32_t kReplyWrite = 1;
inline constexpr std::uint32_t kReplyZero = 2;

struct Reply {
  std::uint32_t slot;
  std::int32_t error;  // out: -ECANCELED if nobody waits any more
  std::uint32_t flags;
  std::uint32_t reserved;
  std::uint64_t serial;
};

struct Replies {
  std::uint64_t replies;
  std::uint32_t count;
  std::uint32_t reserved;
};

inline constexpr std::uint32_t kTakeDrop = 1;
inline constexpr std::uint32_t kTakeSave = 2;

struct Take {
  std::uint32_t link;
  std::uint32_t flags;
  std::uint64_t first;
  std::uint32_t count;
  std::uint32_t reserved;
  std::uint64_t buffer;
  std::uint64_t present;
  std::uint64_t written;
};

inline constexpr unsigned long kAttachCall = _IOWR('g', 0x80, Attach);
inline constexpr unsigned long kLinkCall = _IOWR('g', 0x81, Link);
inline constexpr unsigned long kUnlinkCall = _IOW('g', 0x82, std::uint32_t);
inline constexpr unsigned long kNextLinkCall = _IOWR('g', 0x83, Link);
inline constexpr unsigned long kReplyCall = _IOW('g', 0x84, Replies);
inline constexpr unsigned long kTakeCall = _IOWR('g', 0x85, Take);

}  // namespace gob::abi
