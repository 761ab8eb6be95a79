// FailingDisk: a disk that can be made to refuse writes. An ext4 file system on a loop device whose
// bytes lie in a memfd: once that is sealed against writing, the block device answers every write
// with EIO and every read as before. Needs root and free loop devices. One thread.
#pragma once

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string>

#include "libgob/base/unique_fd.h"

namespace gob {

class FailingDisk {
 public:
  // Mounts it at `folder`. ok() says whether that worked; errno tells why not.
  explicit FailingDisk(std::string folder) : folder_(std::move(folder)) {
    constexpr off_t kBytes = off_t{64} << 20;
    memory_ = UniqueFd(::memfd_create("disk", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!memory_ || ::ftruncate(memory_.get(), kBytes) != 0) return;
    const std::string device = take_loop_device();
    if (device.empty()) return;
    // Without a journal: nothing writes but those whose errors are looked at.
    ok_ = std::system(("mkfs.ext4 -q -O ^has_journal -m 0 " + device).c_str()) == 0 &&
          ::mount(device.c_str(), folder_.c_str(), "ext4", 0, nullptr) == 0;
  }
  ~FailingDisk() {
    if (ok_) ::umount2(folder_.c_str(), MNT_DETACH);
  }
  FailingDisk(const FailingDisk&) = delete;
  FailingDisk& operator=(const FailingDisk&) = delete;

  [[nodiscard]] bool ok() const { return ok_; }
  // From now on it takes nothing any more. False if it could not be made so.
  [[nodiscard]] bool fail() {
    return ::fcntl(memory_.get(), F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == 0;
  }

 private:
  // One that shows memory_, as long as loop_ is open or it is mounted.
  std::string take_loop_device() {
    const UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    while (control) {
      const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
      if (number < 0) return "";
      const std::string device = "/dev/loop" + std::to_string(number);
      loop_ = UniqueFd(::open(device.c_str(), O_RDWR | O_CLOEXEC));
      loop_config wanted{};
      wanted.fd = static_cast<std::uint32_t>(memory_.get());
      wanted.info.lo_flags = LO_FLAGS_AUTOCLEAR;
      if (loop_ && ::ioctl(loop_.get(), LOOP_CONFIGURE, &wanted) == 0) return device;
      if (errno != EBUSY) return "";  // somebody else was faster
    }
    return "";
  }

  const std::string folder_;
  UniqueFd memory_;
  UniqueFd loop_;
  bool ok_ = false;
};

}  // namespace gob
