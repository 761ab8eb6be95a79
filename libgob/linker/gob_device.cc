#include "libgob/linker/gob_device.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <thread>

namespace gob {
namespace {

using namespace std::chrono_literals;

constexpr const char* kPath = "/dev/gob";
constexpr std::size_t kAreaBytes = (abi::kDataPages + abi::kSlots) * kPageSize;
// Who serves under our name may be about to end: an earlier gobd, or its guardian.
constexpr auto kBusyFor = 5s;
// A device (direct I/O) writes into a page of the segment.
constexpr auto kPinnedFor = 10s;

// Retries while the kernel says `again`, for so long: it has no event for the end of either.
template <class F>
int retry(int again, std::chrono::milliseconds most, F&& call) {
  const auto until = std::chrono::steady_clock::now() + most;
  for (;;) {
    const int result = call();
    if (result == 0 || (errno != again && errno != EINTR)) return result;
    if (errno == again && std::chrono::steady_clock::now() >= until) return result;
    if (errno == again) std::this_thread::sleep_for(1ms);
  }
}

Error of_link(const char* what, std::uint32_t link) {
  return system_error(std::string("cannot ") + what + " link " + std::to_string(link) + " of " +
                      kPath);
}

}  // namespace

Result<std::shared_ptr<GobDevice>> GobDevice::open(const std::string& service,
                                                   std::uint32_t patience_ms) {
  UniqueFd fd(::open(kPath, O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (!fd && (errno == ENOENT || errno == ENXIO || errno == ENODEV))
    return make_error(ErrorCode::kUnsupported,
                      std::string("there is no ") + kPath +
                          ": this kernel has no linkers, or its module gob is not loaded "
                          "(modprobe gob; see kernel-patch/README.md)");
  if (!fd && (errno == EACCES || errno == EPERM))
    return make_error(ErrorCode::kPermissionDenied,
                      std::string("cannot open ") + kPath + ": it is for root (CAP_SYS_ADMIN)",
                      errno);
  if (!fd) return system_error(std::string("cannot open ") + kPath);
  abi::Attach attach{};
  service.copy(attach.name.data(), attach.name.size() - 1);
  attach.patience_ms = patience_ms;
  if (retry(EBUSY, kBusyFor, [&] { return ::ioctl(fd.get(), abi::kAttachCall, &attach); }) != 0) {
    if (errno == EBUSY)
      return make_error(ErrorCode::kUnavailable,
                        std::string("another process serves ") + kPath + " as '" + service +
                            "'; is a gobd of this node running?",
                        EBUSY);
    return system_error(std::string("cannot serve ") + kPath);
  }
  void* area =
      ::mmap(nullptr, kAreaBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd.get(), 0);
  if (area == MAP_FAILED) return system_error(std::string("cannot map the requests of ") + kPath);
  // A child would keep the device open when this process is gone, and nobody could take its place.
  if (::madvise(area, kAreaBytes, MADV_DONTFORK) != 0) {
    Error failed = system_error(std::string("cannot keep the requests of ") + kPath + " from children");
    ::munmap(area, kAreaBytes);
    return failed;
  }
  return std::shared_ptr<GobDevice>(new GobDevice(std::move(fd), static_cast<std::byte*>(area)));
}

GobDevice::~GobDevice() { ::munmap(area_, kAreaBytes); }

bool GobDevice::next(abi::Request& request) {
  abi::Ring& shared = ring();
  const std::uint32_t head = shared.head;
  if (std::atomic_ref(shared.tail).load(std::memory_order_acquire) == head) return false;
  request = shared.requests[head % abi::kSlots];
  std::atomic_ref(shared.head).store(head + 1, std::memory_order_release);
  return true;
}

Status GobDevice::reply(std::span<abi::Reply> replies) const {
  if (replies.empty()) return {};
  abi::Replies all{reinterpret_cast<std::uint64_t>(replies.data()),
                   static_cast<std::uint32_t>(replies.size()), 0};
  if (::ioctl(fd_.get(), abi::kReplyCall, &all) == 0) return {};
  return system_error(std::string("cannot answer requests of ") + kPath);
}

void GobDevice::refuse(const abi::Request& request) const {
  abi::Reply no{request.slot, -EIO, 0, 0, request.serial};
  static_cast<void>(reply({&no, 1}));
}

Result<std::uint32_t> GobDevice::link(int fd, std::uint64_t cookie, bool keep) const {
  abi::Link link{};
  link.fd = fd;
  link.cookie = cookie;
  link.flags = keep ? abi::kLinkKeep : 0;
  if (::ioctl(fd_.get(), abi::kLinkCall, &link) == 0) return link.id;
  const int error = errno;
  return make_error(
      error == EBUSY ? ErrorCode::kUnavailable : ErrorCode::kSystem,
      std::string("cannot link it") +
          (error == EBUSY ? ": it is linked already, or has huge pages" : ""),
      error);
}

Status GobDevice::unlink(std::uint32_t link) const {
  if (::ioctl(fd_.get(), abi::kUnlinkCall, &link) == 0) return {};
  return of_link("end", link);
}

std::vector<GobDevice::Found> GobDevice::links() const {
  std::vector<Found> found;
  abi::Link link{};
  for (; ::ioctl(fd_.get(), abi::kNextLinkCall, &link) == 0; ++link.id)
    found.push_back({link.id, link.cookie});
  return found;
}

Result<GobDevice::Taken> GobDevice::take(std::uint32_t link, PageIndex first, unsigned count,
                                         bool drop, std::byte* save) const {
  Taken all;
  while (all.count < count) {
    abi::Take take{};
    take.link = link;
    take.flags = (drop ? abi::kTakeDrop : 0) | (save != nullptr ? abi::kTakeSave : 0);
    take.first = first.value() + all.count;
    take.count = count - all.count;
    take.buffer = reinterpret_cast<std::uint64_t>(save) + all.count * kPageSize;
    if (save == nullptr) take.buffer = 0;
    if (retry(EAGAIN, kPinnedFor, [&] { return ::ioctl(fd_.get(), abi::kTakeCall, &take); }) != 0)
      return of_link("take pages of", link);
    all.present |= take.present << all.count;
    all.count += take.count;
  }
  return all;
}

}  // namespace gob
