#include "tests/linker/test_program.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csetjmp>
#include <cstring>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "libgob/linker/uffd_client.h"

namespace gob::test {
namespace {

sigjmp_buf sigbus_return;

void on_sigbus(int) { siglongjmp(sigbus_return, 1); }

struct Linked {
  std::uint64_t address;
  int uffd;
};

class Child {
 public:
  Child(int socket, int memfd, const TestProgram::Config& config)
      : socket_(socket), config_(config) {
    const int protection = config.writable ? PROT_READ | PROT_WRITE : PROT_READ;
    const std::size_t bytes = config.pages * kPageSize;
    void* address = ::mmap(nullptr, bytes, protection, MAP_SHARED | MAP_NORESERVE, memfd,
                           static_cast<off_t>(config.first.value() * kPageSize));
    if (address == MAP_FAILED) ::_exit(10);
    base_ = static_cast<std::byte*>(address);
    auto uffd = create_uffd(-1);
    if (!uffd) ::_exit(11);
    uffd_ = std::move(uffd).value();
    if (!register_mapping(uffd_.get(), address, bytes)) ::_exit(12);
    const std::uint64_t number = reinterpret_cast<std::uintptr_t>(address);
    if (!send_fd(socket, uffd_.get(), &number, sizeof number)) ::_exit(13);
  }

  [[noreturn]] void serve() {
    struct sigaction action = {};
    action.sa_handler = on_sigbus;
    ::sigaction(SIGBUS, &action, nullptr);
    Command command{};
    while (::read(socket_, &command, sizeof command) == static_cast<ssize_t>(sizeof command)) {
      if (command.op == Op::kExit) break;
      Reply reply;
      if (sigsetjmp(sigbus_return, 1) == 0)
        reply = perform(command);
      else
        reply.error = kSigbus;
      if (::write(socket_, &reply, sizeof reply) != static_cast<ssize_t>(sizeof reply)) break;
    }
    ::_exit(0);
  }

 private:
  std::atomic<std::uint64_t>& word(std::uint64_t page) {
    return *reinterpret_cast<std::atomic<std::uint64_t>*>(base_ + page * kPageSize);
  }

  static Reply of(std::int64_t result) { return {result, result < 0 ? errno : 0, 0}; }

  Reply perform(const Command& command) {
    std::byte* at = base_ + command.page * kPageSize;
    switch (command.op) {
      case Op::kRead:
        return {static_cast<std::int64_t>(word(command.page).load()), 0, 0};
      case Op::kWrite:
        word(command.page).store(command.value);
        return {};
      case Op::kReadInto:
      case Op::kWriteOut:
        return through_kernel(command, at);
      case Op::kDontNeed:
        return of(::madvise(at, command.value * kPageSize, MADV_DONTNEED));
      case Op::kRemove:
        return of(::madvise(at, kPageSize, MADV_REMOVE));
      case Op::kUnmap:
        return of(::munmap(at, command.value * kPageSize));
      case Op::kFork:
        return fork_without_mapping();
      case Op::kManyReads:
        return many_reads(command);
      case Op::kReadRange: {
        std::uint64_t sum = 0;
        for (std::uint64_t i = 0; i < command.value; ++i) sum += word(command.page + i).load();
        return {static_cast<std::int64_t>(sum), 0, 0};
      }
      case Op::kWriteRange:
        for (std::uint64_t i = 0; i < command.value; ++i) word(command.page + i).fetch_add(1);
        return {static_cast<std::int64_t>(command.value), 0, 0};
      case Op::kHammer: {
        const auto add = [&] {
          for (std::uint64_t i = 0; i < command.value; ++i) word(command.page).fetch_add(1);
        };
        std::thread other(add);
        add();
        other.join();
        return {};
      }
      case Op::kClearNonBlock:
        return of(::fcntl(uffd_.get(), F_SETFL, 0));
      case Op::kExit:
        break;
    }
    ::_exit(14);
  }

  static Reply through_kernel(const Command& command, std::byte* at) {
    int ends[2];
    if (::pipe(ends) != 0) return of(-1);
    const UniqueFd read_end(ends[0]);
    const UniqueFd write_end(ends[1]);
    std::uint64_t value = command.value;
    if (command.op == Op::kReadInto) {
      if (::write(write_end.get(), &value, sizeof value) < 0) return of(-1);
      return of(::read(read_end.get(), at, sizeof value));
    }
    if (::write(write_end.get(), at, sizeof value) < 0) return of(-1);
    if (::read(read_end.get(), &value, sizeof value) < 0) return of(-1);
    return {static_cast<std::int64_t>(value), 0, 0};
  }

  Reply fork_without_mapping() {
    if (::madvise(base_, config_.pages * kPageSize, MADV_DONTFORK) != 0) return of(-1);
    const pid_t child = ::fork();
    if (child < 0) return of(-1);
    if (child == 0) {
      unsigned char resident = 0;  // mincore fails with ENOMEM where nothing is mapped
      ::_exit(::mincore(base_, kPageSize, &resident) != 0 && errno == ENOMEM ? 0 : 1);
    }
    int status = 0;
    if (::waitpid(child, &status, 0) != child) return of(-1);
    return {WIFEXITED(status) && WEXITSTATUS(status) == 0, 0, 0};
  }

  Reply many_reads(const Command& command) {
    std::atomic<std::uint64_t> sum = 0;
    std::vector<std::thread> threads;
    for (std::uint64_t i = 0; i < command.value; ++i)
      threads.emplace_back([&] { sum += word(command.page).load(); });
    for (std::thread& thread : threads) thread.join();
    return {static_cast<std::int64_t>(sum.load()), 0, 0};
  }

  int socket_;
  TestProgram::Config config_;
  std::byte* base_ = nullptr;
  UniqueFd uffd_;
};

}  // namespace

TestProgram::TestProgram(const FramePool& pool, const Config& config) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    throw std::runtime_error("socketpair");
  socket_ = UniqueFd(ends[0]);
  const UniqueFd child_end(ends[1]);
  const int memory = *pool.fd();  // before the fork, or the child would make memory of its own
  pid_ = ::fork();
  if (pid_ < 0) throw std::runtime_error("fork");
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a failed test leaves nobody behind
    socket_.reset();
    Child(child_end.get(), memory, config).serve();
  }
  UniqueFd uffd;
  std::uint64_t address = 0;
  if (!receive_fd(socket_.get(), uffd, &address, sizeof address))
    throw std::runtime_error("the test program could not link its mapping");
  auto mapping =
      Mapping::create(std::move(uffd), {MappingId{config.id}, ContainerId{config.container},
                                        address, config.first, config.pages, config.may_write});
  if (!mapping) throw std::runtime_error(mapping.error().message());
  mapping_ = std::move(mapping).value();
}

TestProgram::~TestProgram() {
  if (pid_ > 0) kill();
}

void TestProgram::start(const Command& command) {
  if (::write(socket_.get(), &command, sizeof command) != static_cast<ssize_t>(sizeof command))
    throw std::runtime_error("the test program is gone");
}

std::optional<Reply> TestProgram::reply(int timeout_ms) {
  pollfd ready = {socket_.get(), POLLIN, 0};
  if (::poll(&ready, 1, timeout_ms) != 1) return std::nullopt;
  Reply reply;
  if (::read(socket_.get(), &reply, sizeof reply) != static_cast<ssize_t>(sizeof reply))
    return std::nullopt;
  return reply;
}

void TestProgram::kill() {
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

bool send_fd(int socket, int fd, const void* bytes, std::size_t size) {
  iovec vector = {const_cast<void*>(bytes), size};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {};
  msghdr message = {};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  return ::sendmsg(socket, &message, MSG_NOSIGNAL) == static_cast<ssize_t>(size);
}

bool receive_fd(int socket, UniqueFd& fd, void* bytes, std::size_t size) {
  iovec vector = {bytes, size};
  int received = -1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof received)] = {};
  msghdr message = {};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (::recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != static_cast<ssize_t>(size)) return false;
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_type != SCM_RIGHTS) return false;
  std::memcpy(&received, CMSG_DATA(header), sizeof received);
  fd.reset(received);
  return true;
}

}  // namespace gob::test
