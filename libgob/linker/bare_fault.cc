#include "libgob/linker/bare_fault.h"

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string>

#include "libgob/base/unique_fd.h"
#include "libgob/container/frame_pool.h"
#include "libgob/linker/mapping.h"
#include "libgob/linker/uffd_calls.h"
#include "libgob/linker/uffd_client.h"

namespace gob {
namespace {

constexpr unsigned kMaxRounds = 1'000'000;
constexpr int kPatienceMs = 10'000;  // without a fault: something is wrong

// A shared mapping that is gone at the end of the scope.
class SharedMemory {
 public:
  SharedMemory(std::size_t bytes, int fd)
      : bytes_(bytes),
        start_(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_NORESERVE | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0)) {}
  ~SharedMemory() {
    if (ok()) ::munmap(start_, bytes_);
  }
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  [[nodiscard]] bool ok() const { return start_ != MAP_FAILED; }
  [[nodiscard]] void* start() const { return start_; }

 private:
  std::size_t bytes_;
  void* start_;
};

// The process that touches; gone at the end of the scope.
struct Toucher {
  pid_t pid = -1;
  Toucher() = default;
  Toucher(const Toucher&) = delete;
  Toucher& operator=(const Toucher&) = delete;
  ~Toucher() {
    if (pid <= 0) return;
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
};

union ControlBuffer {
  cmsghdr header;
  std::array<char, CMSG_SPACE(sizeof(int))> bytes;
};

bool send_descriptor(int socket, int fd) {
  char byte = 0;
  iovec vector = {&byte, 1};
  ControlBuffer control = {};
  msghdr message = {};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes.data();
  message.msg_controllen = control.bytes.size();
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  return ::sendmsg(socket, &message, MSG_NOSIGNAL) == 1;
}

UniqueFd receive_descriptor(int socket) {
  char byte = 0;
  iovec vector = {&byte, 1};
  ControlBuffer control = {};
  msghdr message = {};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes.data();
  message.msg_controllen = control.bytes.size();
  if (::recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1) return {};
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_type != SCM_RIGHTS) return {};
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return UniqueFd(fd);
}

std::uint64_t now_ns() {
  timespec now = {};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(now.tv_nsec);
}

// In the child. Calls nothing that a fork of a threaded process must not, but for the descriptor.
[[noreturn]] void touch_pages(int socket, std::byte* pages, std::uint64_t* took_ns,
                              unsigned rounds) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const auto uffd = create_uffd(-1);
  if (!uffd || !register_mapping(uffd->get(), pages, rounds * kPageSize) ||
      !send_descriptor(socket, uffd->get()))
    ::_exit(1);
  for (unsigned i = 0; i < rounds; ++i) {
    const std::uint64_t before = now_ns();
    static_cast<void>(*const_cast<volatile std::byte*>(pages + i * kPageSize));
    took_ns[i] = now_ns() - before;
  }
  ::_exit(0);
}

Status answer_faults(Mapping& mapping, unsigned rounds, FaultWait wait) {
  alignas(kPageSize) static constexpr std::array<std::byte, kPageSize> kPage{};
  std::vector<Fault> faults;
  std::uint64_t deadline_ns = now_ns() + std::uint64_t{kPatienceMs} * 1'000'000;
  for (unsigned answered = 0; answered < rounds;) {
    faults.clear();
    if (wait == FaultWait::kBlocking) {
      pollfd ready = {mapping.uffd(), POLLIN, 0};
      ::poll(&ready, 1, kPatienceMs);
    }
    if (Status drained = mapping.drain(faults); !drained) return drained;
    if (faults.empty()) {
      if (now_ns() < deadline_ns) continue;
      return make_error(ErrorCode::kTimedOut,
                        "bare fault measurement: no fault came from the process that touches pages",
                        ETIMEDOUT);
    }
    for (const Fault& fault : faults) {
      const UffdResult copied =
          uffd_copy(mapping.uffd(), mapping.address_of(fault.page.page), 1, kPage.data(), false);
      if (copied.outcome != UffdOutcome::kDone)
        return make_error(ErrorCode::kSystem, "bare fault measurement: cannot answer a fault",
                          copied.errno_value);
      ++answered;
    }
    deadline_ns = now_ns() + std::uint64_t{kPatienceMs} * 1'000'000;
  }
  return {};
}

}  // namespace

Result<std::vector<std::uint64_t>> measure_bare_fault(unsigned rounds, FaultWait wait) {
  if (rounds == 0 || rounds > kMaxRounds)
    return make_error(ErrorCode::kInvalidArgument,
                      "bare fault measurement: rounds must be 1 to " + std::to_string(kMaxRounds),
                      EINVAL);
  const auto pool = FramePool::create("bare-fault", rounds);
  if (!pool) return pool.error();
  const SharedMemory pages(rounds * kPageSize, pool->fd());
  const SharedMemory took(rounds * sizeof(std::uint64_t), -1);
  if (!pages.ok() || !took.ok()) return system_error("bare fault measurement: cannot map memory");
  // Here, not in the child: its stores must not fault.
  std::memset(took.start(), 0, rounds * sizeof(std::uint64_t));
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return system_error("bare fault measurement: cannot create a socket pair");
  const UniqueFd here(ends[0]);
  UniqueFd there(ends[1]);

  Toucher toucher;
  toucher.pid = ::fork();
  if (toucher.pid < 0) return system_error("bare fault measurement: cannot start a process");
  auto* const took_ns = static_cast<std::uint64_t*>(took.start());
  if (toucher.pid == 0)
    touch_pages(there.get(), static_cast<std::byte*>(pages.start()), took_ns, rounds);
  there.reset();
  UniqueFd uffd = receive_descriptor(here.get());
  if (!uffd) {
    if (const Status supported = check_uffd_support(); !supported) return supported.error();
    return make_error(ErrorCode::kSystem,
                      "bare fault measurement: the process that touches pages could not set up its "
                      "userfaultfd");
  }
  auto mapping = Mapping::create(std::move(uffd), {MappingId{1}, ContainerId{1},
                                                   reinterpret_cast<std::uintptr_t>(pages.start()),
                                                   PageIndex{0}, rounds, true});
  if (!mapping) return mapping.error();
  if (const Status answered = answer_faults(**mapping, rounds, wait); !answered)
    return answered.error();
  // Its last figure is written once it is gone.
  int status = 0;
  const pid_t gone = ::waitpid(toucher.pid, &status, 0);
  toucher.pid = -1;
  if (gone < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
    return make_error(ErrorCode::kSystem,
                      "bare fault measurement: the process that touches pages failed");
  return std::vector<std::uint64_t>(took_ns, took_ns + rounds);
}

}  // namespace gob
