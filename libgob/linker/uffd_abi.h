// The kernel's userfaultfd interface as this project needs it: Linux 6.6 or later. Debian 12's
// headers stop at 6.1; what came later stands here, with the release that brought it.
#pragma once

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include <cstdint>

#ifndef UFFD_FEATURE_WP_UNPOPULATED  // 6.4: write protection of pages not yet touched
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFDIO_CONTINUE_MODE_WP  // 6.4: UFFDIO_CONTINUE that maps write-protected
#define UFFDIO_CONTINUE_MODE_WP (static_cast<__u64>(1) << 1)
#endif
#ifndef UFFD_FEATURE_POISON  // 6.6: answer a fault with SIGBUS
#define UFFD_FEATURE_POISON (1 << 14)
#endif
#ifndef UFFDIO_POISON  // 6.6
struct uffdio_poison {
  struct uffdio_range range;
  __u64 mode;
  __s64 updated;  // written by the kernel: bytes poisoned, or a negative errno
};
#define UFFDIO_POISON _IOWR(UFFDIO, 0x08, struct uffdio_poison)
#endif
#ifndef UFFDIO_POISON_MODE_DONTWAKE
#define UFFDIO_POISON_MODE_DONTWAKE (static_cast<__u64>(1) << 0)
#endif

namespace gob {

// What a client asks for in the UFFDIO_API handshake; gobd accepts a userfaultfd with exactly
// these, or those with news below. No other event is among them (remove, unmap), nor WP_ASYNC,
// which would let the kernel resolve write faults behind our back.
inline constexpr std::uint64_t kUffdFeatures =
    UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM |
    UFFD_FEATURE_WP_HUGETLBFS_SHMEM | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_POISON;

inline constexpr std::uint64_t kUffdModes =
    UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR | UFFDIO_REGISTER_MODE_WP;

// Of mappings that somebody else made in a program, who hears of what the kernel says beside
// faults: the program forks (which the kernel grants to CAP_SYS_PTRACE alone), or moves them by
// mremap(2).
inline constexpr std::uint64_t kUffdNewsFeatures =
    kUffdFeatures | UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP;

// The calls on a range that a registration with kUffdModes must allow.
inline constexpr std::uint64_t kUffdCalls =
    (std::uint64_t{1} << _UFFDIO_WAKE) | (std::uint64_t{1} << _UFFDIO_COPY) |
    (std::uint64_t{1} << _UFFDIO_WRITEPROTECT) | (std::uint64_t{1} << _UFFDIO_CONTINUE) |
    (std::uint64_t{1} << _IOC_NR(UFFDIO_POISON));

}  // namespace gob
