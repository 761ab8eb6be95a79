#include "libgob/linker/uffd_client.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <utility>

#include "libgob/linker/uffd_abi.h"

namespace gob {
namespace {

constexpr int kFlags = O_CLOEXEC | O_NONBLOCK;

// The bare descriptor, before the handshake.
Result<UniqueFd> open_uffd(int device_fd) {
  int device_errno = 0;
  if (device_fd >= 0) {
    UniqueFd uffd(::ioctl(device_fd, USERFAULTFD_IOC_NEW, kFlags));
    if (uffd) return uffd;
    device_errno = errno;
  }
  UniqueFd uffd(static_cast<int>(::syscall(SYS_userfaultfd, kFlags)));
  if (uffd) return uffd;
  const int syscall_errno = errno;
  std::string context = "cannot create a userfaultfd";
  if (device_fd >= 0)
    context += " (gobd's /dev/userfaultfd: " + std::string(std::strerror(device_errno)) + ")";
  if (syscall_errno == EPERM) {
    context +=
        ": not allowed for this user. Either give gobd access to /dev/userfaultfd, which it hands "
        "to programs, or run `sysctl vm.unprivileged_userfaultfd=1`";
    return make_error(ErrorCode::kPermissionDenied, std::move(context), EPERM);
  }
  if (syscall_errno == ENOSYS) {
    context +=
        ": this kernel is built without CONFIG_USERFAULTFD; Linux 6.6 or later with it is "
        "needed";
    return make_error(ErrorCode::kUnsupported, std::move(context), ENOSYS);
  }
  return make_error(ErrorCode::kSystem, std::move(context), syscall_errno);
}

// After a refused handshake: which features are missing, found with a second descriptor.
Error missing_features(int device_fd) {
  static constexpr std::pair<std::uint64_t, const char*> kNames[] = {
      {UFFD_FEATURE_PAGEFAULT_FLAG_WP, "write-protect faults (Linux 5.7)"},
      {UFFD_FEATURE_MISSING_SHMEM, "missing faults on shared memory (Linux 4.11)"},
      {UFFD_FEATURE_MINOR_SHMEM, "minor faults on shared memory (Linux 5.14)"},
      {UFFD_FEATURE_WP_HUGETLBFS_SHMEM, "write protection of shared memory (Linux 5.19)"},
      {UFFD_FEATURE_WP_UNPOPULATED, "write protection of unpopulated pages (Linux 6.4)"},
      {UFFD_FEATURE_POISON, "poisoned pages (Linux 6.6)"},
  };
  std::string context = "Linux 6.6 or later is needed: this kernel's userfaultfd lacks";
  auto uffd = open_uffd(device_fd);
  uffdio_api api = {};
  api.api = UFFD_API;
  if (!uffd || ::ioctl(uffd->get(), UFFDIO_API, &api) != 0)
    return make_error(ErrorCode::kUnsupported,
                      context + " the interface this program was built for", ENOTSUP);
  const char* separator = " ";
  for (const auto& [bit, name] : kNames) {
    if ((api.features & bit) != 0) continue;
    context += separator;
    context += name;
    separator = ", ";
  }
  return make_error(ErrorCode::kUnsupported, std::move(context), ENOTSUP);
}

}  // namespace

Result<UniqueFd> create_uffd(int device_fd) {
  auto uffd = open_uffd(device_fd);
  if (!uffd) return uffd;
  uffdio_api api = {};
  api.api = UFFD_API;
  api.features = kUffdFeatures;
  if (::ioctl(uffd->get(), UFFDIO_API, &api) == 0) return uffd;
  if (errno == EINVAL) return missing_features(device_fd);
  return system_error("the kernel refused the userfaultfd handshake");
}

Status register_mapping(int uffd, void* address, std::size_t bytes) {
  uffdio_register range = {};
  range.range.start = reinterpret_cast<std::uintptr_t>(address);
  range.range.len = bytes;
  range.mode = kUffdModes;
  if (::ioctl(uffd, UFFDIO_REGISTER, &range) != 0)
    return system_error("cannot link " + std::to_string(bytes) +
                        " bytes of mapping to userfaultfd (it must be a shared mapping of a "
                        "container's memfd, opened for writing, and linked once)");
  if ((range.ioctls & kUffdCalls) != kUffdCalls)
    return make_error(
        ErrorCode::kUnsupported,
        "Linux 6.6 or later is needed: this kernel's userfaultfd cannot write-protect, "
        "continue and poison pages of shared memory",
        ENOTSUP);
  return {};
}

Status check_uffd_support() {
  auto uffd = create_uffd(-1);
  if (uffd) return {};
  if (uffd.error().code != ErrorCode::kPermissionDenied) return uffd.error();
  const UniqueFd device(::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
  if (!device) return uffd.error();
  uffd = create_uffd(device.get());
  if (!uffd) return uffd.error();
  return {};
}

}  // namespace gob
