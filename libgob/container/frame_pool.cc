#include "libgob/container/frame_pool.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <vector>

namespace gob {
namespace {

// Says that the file is not to be executed, which a kernel set to want it (vm.memfd_noexec) asks
// for. Linux 6.3; not in Debian 12's headers.
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

off_t offset_of(PageIndex page) { return static_cast<off_t>(page.value() * kPageSize); }

// One page of zeros for writev, shared by all.
alignas(kPageSize) constexpr std::array<std::byte, kPageSize> kZeroPage{};

// Repeats a positioned transfer until all bytes have moved. `transfer(done)` returns what the
// system call did for the rest. False with errno set on failure.
template <class F>
bool transfer_all(std::size_t bytes, F&& transfer) {
  std::size_t done = 0;
  while (done < bytes) {
    const ssize_t moved = transfer(done);
    if (moved < 0 && errno == EINTR) continue;
    if (moved <= 0) {
      if (moved == 0) errno = EIO;
      return false;
    }
    done += static_cast<std::size_t>(moved);
  }
  return true;
}

}  // namespace

Result<FramePool> FramePool::create(const std::string& name, std::uint64_t pages) {
  if (pages == 0 || pages > kMaxPages)
    return make_error(ErrorCode::kInvalidArgument,
                      "cannot make the page frames of container " + name + " (" +
                          std::to_string(pages) + " pages): a container has 1 to " +
                          std::to_string(kMaxPages) + " pages",
                      EINVAL);
  return FramePool(name, pages);
}

Result<int> FramePool::fd() const {
  const int made = memory_->fd.load(std::memory_order_acquire);
  if (made >= 0) return made;
  const std::lock_guard lock(memory_->mutex);
  if (memory_->memfd) return memory_->memfd.get();
  const auto failed_to = [this](const char* why) {
    Error error = system_error("cannot make the page frames of container " + memory_->name + " (" +
                               std::to_string(pages_) + " pages): " + why);
    if (error.errno_value == EMFILE || error.errno_value == ENFILE)
      error.code = ErrorCode::kNoSpace;
    return error;
  };
  const std::string shown = "gob:" + memory_->name.substr(0, 200);  // the kernel takes 249 bytes
  UniqueFd memfd(::memfd_create(shown.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL));
  if (!memfd &&
      errno == EINVAL)  // a kernel older than the flag; it is refused with a clear message later
    memfd.reset(::memfd_create(shown.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memfd) return failed_to("no file descriptor is left, or no memory (see ulimit -n)");
  if (::ftruncate(memfd.get(), static_cast<off_t>(pages_ * kPageSize)) != 0)
    return failed_to("the memfd cannot be made that large (see ulimit -f)");
  if (::fcntl(memfd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
    return failed_to("the memfd cannot be sealed");
  memory_->memfd = std::move(memfd);
  memory_->fd.store(memory_->memfd.get(), std::memory_order_release);
  return memory_->memfd.get();
}

Error FramePool::failed(const char* what, PageIndex first, unsigned count) const {
  Error error = system_error(std::string("cannot ") + what + " " + std::to_string(count) +
                             " page frames from page " + std::to_string(first.value()));
  if (error.errno_value == ENOSPC || error.errno_value == ENOMEM) error.code = ErrorCode::kNoSpace;
  return error;
}

Status FramePool::store(PageIndex first, unsigned count, const std::byte* bytes) const {
  const Result<int> memory = fd();
  if (!memory) return memory.error();
  const std::size_t size = count * kPageSize;
  if (transfer_all(size, [&](std::size_t done) {
        return ::pwrite(*memory, bytes + done, size - done,
                        offset_of(first) + static_cast<off_t>(done));
      }))
    return {};
  return failed("store", first, count);
}

Status FramePool::store_zero(PageIndex first, unsigned count) const {
  const Result<int> memory = fd();
  if (!memory) return memory.error();
  const std::size_t size = count * kPageSize;
  std::array<iovec, kStripePages> zeros;
  zeros.fill({const_cast<std::byte*>(kZeroPage.data()), kPageSize});
  if (transfer_all(size, [&](std::size_t done) {
        // A short write may end inside a page; the next one starts there.
        const std::size_t left = size - done;
        zeros[0].iov_len = std::min(left, kPageSize - done % kPageSize);
        const std::size_t pages = 1 + (left - zeros[0].iov_len) / kPageSize;
        return ::pwritev(*memory, zeros.data(), static_cast<int>(pages),
                         offset_of(first) + static_cast<off_t>(done));
      }))
    return {};
  return failed("store zeros in", first, count);
}

Status FramePool::load(PageIndex first, unsigned count, std::byte* out) const {
  const std::size_t size = count * kPageSize;
  if (!is_made()) {
    std::fill_n(out, size, std::byte{0});
    return {};
  }
  const Result<int> memory = fd();
  if (transfer_all(size, [&](std::size_t done) {
        return ::pread(*memory, out + done, size - done, offset_of(first) + static_cast<off_t>(done));
      }))
    return {};
  return failed("read", first, count);
}

Status FramePool::read_bytes(std::uint64_t offset, std::span<std::byte> out) const {
  const Result<int> memory = fd();
  if (!memory) return memory.error();
  if (transfer_all(out.size(), [&](std::size_t done) {
        return ::pread(*memory, out.data() + done, out.size() - done,
                       static_cast<off_t>(offset + done));
      }))
    return {};
  return failed("read bytes of", PageIndex{offset / kPageSize}, 1);
}

Status FramePool::write_bytes(std::uint64_t offset, std::span<const std::byte> bytes) const {
  const Result<int> memory = fd();
  if (!memory) return memory.error();
  if (transfer_all(bytes.size(), [&](std::size_t done) {
        return ::pwrite(*memory, bytes.data() + done, bytes.size() - done,
                        static_cast<off_t>(offset + done));
      }))
    return {};
  return failed("write bytes of", PageIndex{offset / kPageSize}, 1);
}

Status FramePool::take(PageIndex first, unsigned count, std::byte* out, PagePipe& pipe) const {
  const Result<int> memory = fd();
  if (!memory) return memory.error();
  while (count > 0) {
    const Result<unsigned> held = pipe.fill(*memory, first.value() * kPageSize, count);
    if (!held) return held.error();
    if (Status punched = punch(first, *held); !punched) {
      pipe.discard();
      return punched;
    }
    if (Status drained = pipe.drain(*held, out); !drained) return drained;
    out += *held * kPageSize;
    count -= *held;
    first = PageIndex{first.value() + *held};
  }
  return {};
}

Status FramePool::punch(PageIndex first, unsigned count) const {
  if (!is_made()) return {};
  const int memory = *fd();
  int failure = 0;
  do {
    failure = ::fallocate(memory, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset_of(first),
                          static_cast<off_t>(count * kPageSize));
  } while (failure != 0 && errno == EINTR);
  if (failure == 0) return {};
  return failed("free", first, count);
}

Status FramePool::clear() const {
  if (!is_made()) return {};
  const int memory = *fd();
  int failure = 0;
  do {
    failure = ::fallocate(memory, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                          static_cast<off_t>(pages_ * kPageSize));
  } while (failure != 0 && errno == EINTR);
  if (failure == 0) return {};
  return system_error("cannot free all " + std::to_string(pages_) + " page frames of a container");
}

Status FramePool::unmap(PageIndex first, unsigned count, PagePipe& pipe) const {
  std::vector<std::byte> bytes(count * kPageSize);
  if (Status taken = take(first, count, bytes.data(), pipe); !taken) return taken;
  Status stored = store(first, count, bytes.data());
  if (stored) return {};
  Error error = stored.error();
  error.code = ErrorCode::kLost;
  return error;
}

bool FramePool::resident(PageIndex page) const {
  return is_made() && ::lseek(*fd(), offset_of(page), SEEK_DATA) == offset_of(page);
}

Result<std::uint64_t> FramePool::resident_count() const {
  if (!is_made()) return 0;
  struct stat status = {};
  if (::fstat(*fd(), &status) != 0) return system_error("cannot count page frames");
  return static_cast<std::uint64_t>(status.st_blocks) * 512 / kPageSize;
}

}  // namespace gob
