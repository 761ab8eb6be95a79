#include "libgob/linker/bare_program.h"

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <utility>

#include "libgob/linker/cache_sweep.h"
#include "libgob/linker/uffd_client.h"

namespace gob {
namespace {

// A message of one byte, with room for a descriptor beside it.
class Envelope {
 public:
  Envelope() {
    message_.msg_iov = &vector_;
    message_.msg_iovlen = 1;
    message_.msg_control = control_.data();
    message_.msg_controllen = control_.size();
  }
  Envelope(const Envelope&) = delete;
  Envelope& operator=(const Envelope&) = delete;

  bool send(int socket, int fd) {
    cmsghdr* header = CMSG_FIRSTHDR(&message_);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
    return ::sendmsg(socket, &message_, MSG_NOSIGNAL) == 1;
  }

  UniqueFd receive(int socket) {
    if (::recvmsg(socket, &message_, MSG_CMSG_CLOEXEC) != 1) return {};
    const cmsghdr* header = CMSG_FIRSTHDR(&message_);
    if (header == nullptr || header->cmsg_type != SCM_RIGHTS) return {};
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
    return UniqueFd(fd);
  }

 private:
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control_ = {};
  char byte_ = 0;
  iovec vector_ = {&byte_, 1};
  msghdr message_ = {};
};

std::uint64_t now_ns() {
  timespec now = {};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace

class BareProgram::SharedMemory {
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

BareProgram::BareProgram(std::string what, std::uint64_t pages)
    : what_(std::move(what)), pages_(pages) {}

BareProgram::BareProgram(BareProgram&& other) noexcept
    : what_(std::move(other.what_)),
      pages_(other.pages_),
      pool_(std::move(other.pool_)),
      memory_(std::move(other.memory_)),
      took_ns_(std::move(other.took_ns_)),
      mapping_(std::move(other.mapping_)),
      pidfd_(std::move(other.pidfd_)),
      pid_(std::exchange(other.pid_, -1)) {}

BareProgram::~BareProgram() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

Result<BareProgram> BareProgram::start(const std::string& what, std::uint64_t pages, ReadPage read,
                                       std::span<double> swept) {
  BareProgram program(what, pages);
  Result<FramePool> pool = FramePool::create("bare-program", pages);
  if (!pool) return pool.error();
  program.pool_ = std::make_unique<FramePool>(std::move(*pool));
  const Result<int> memory = program.pool_->fd();
  if (!memory) return memory.error();
  program.memory_ = std::make_unique<SharedMemory>(pages * kPageSize, *memory);
  program.took_ns_ = std::make_unique<SharedMemory>(pages * sizeof(std::uint64_t), -1);
  if (!program.memory_->ok() || !program.took_ns_->ok())
    return system_error(what + ": cannot map memory");
  // Here, not in the child: its stores must not fault.
  std::memset(program.took_ns_->start(), 0, pages * sizeof(std::uint64_t));
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return system_error(what + ": cannot create a socket pair");
  const UniqueFd here(ends[0]);
  UniqueFd there(ends[1]);

  program.pid_ = ::fork();
  if (program.pid_ < 0) return system_error(what + ": cannot start a process");
  if (program.pid_ == 0) program.run(there.get(), read, swept);
  there.reset();
  program.pidfd_.reset(static_cast<int>(::syscall(SYS_pidfd_open, program.pid_, 0)));
  if (!program.pidfd_) return system_error(what + ": cannot watch a process");
  UniqueFd uffd = Envelope().receive(here.get());
  if (!uffd) {
    if (const Status supported = check_uffd_support(); !supported) return supported.error();
    return make_error(ErrorCode::kSystem,
                      what + ": the process that reads pages could not set up its userfaultfd");
  }
  auto mapping =
      Mapping::create(std::move(uffd), {MappingId{1}, ContainerId{1},
                                        reinterpret_cast<std::uintptr_t>(program.memory_->start()),
                                        PageIndex{0}, pages, true});
  if (!mapping) return mapping.error();
  program.mapping_ = std::move(*mapping);
  return program;
}

// In the child. Calls nothing that a fork of a threaded process must not, but for the descriptor.
void BareProgram::run(int socket, ReadPage read, std::span<double> swept) const {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  auto* const start = static_cast<std::byte*>(memory_->start());
  auto* const took_ns = static_cast<std::uint64_t*>(took_ns_->start());
  const auto uffd = create_uffd(-1);
  if (!uffd || !register_mapping(uffd->get(), start, pages_ * kPageSize) ||
      !Envelope().send(socket, uffd->get()))
    ::_exit(1);
  for (std::uint64_t i = 0; i < pages_; ++i) {
    sweep_cache(swept);
    const std::uint64_t before = now_ns();
    if (!read(start + i * kPageSize, i)) ::_exit(1);
    took_ns[i] = now_ns() - before;
  }
  ::_exit(0);
}

Result<std::vector<std::uint64_t>> BareProgram::finish(std::chrono::milliseconds timeout) {
  pollfd ended = {pidfd_.get(), POLLIN, 0};
  if (::poll(&ended, 1, static_cast<int>(timeout.count())) == 0)
    return make_error(ErrorCode::kTimedOut, what_ + ": the process that reads pages has not ended",
                      ETIMEDOUT);
  int status = 0;
  const pid_t gone = ::waitpid(pid_, &status, 0);
  pid_ = -1;
  if (gone < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
    return make_error(ErrorCode::kSystem, what_ + ": the process that reads pages failed");
  const auto* const took_ns = static_cast<const std::uint64_t*>(took_ns_->start());
  return std::vector<std::uint64_t>(took_ns, took_ns + pages_);
}

}  // namespace gob
