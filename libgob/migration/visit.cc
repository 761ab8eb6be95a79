#include "libgob/migration/visit.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#include "libgob/base/ids.h"
#include "libgob/linker/uffd_abi.h"
#include "libgob/migration/proc.h"

namespace gob::migration {
namespace {

constexpr int kUffdFlags = O_CLOEXEC | O_NONBLOCK;
constexpr std::size_t kMostGiven = 8;

// What recvmsg(2) needs, at one place in the process.
struct Letter {
  msghdr header;
  iovec part;
  char byte[8];
  alignas(cmsghdr) char control[CMSG_SPACE(kMostGiven * sizeof(int))];
};
static_assert(sizeof(Letter) <= kPageSize);

std::uint64_t word(int value) {
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(value));
}

}  // namespace

Result<Visit> Visit::begin(pid_t pid, std::chrono::milliseconds limit) {
  auto injector = Injector::stop(pid, limit);
  if (!injector) return injector.error();
  return Visit(std::move(*injector));
}

Visit::Visit(Visit&& other) noexcept
    : injector_(std::move(other.injector_)),
      process_(std::move(other.process_)),
      room_(std::exchange(other.room_, 0)),
      ours_(std::move(other.ours_)),
      theirs_(std::exchange(other.theirs_, -1)),
      given_(std::exchange(other.given_, {})) {}

Visit::~Visit() {
  for (const int fd : given_) close(fd);
  if (theirs_ >= 0) close(theirs_);
  if (room_ != 0)
    static_cast<void>(injector_.call("giving memory back", SYS_munmap, {room_, kPageSize}).ok());
}

void Visit::close(int fd) {
  static_cast<void>(injector_.call("closing a descriptor", SYS_close, {word(fd)}).ok());
}

Status Visit::take_room() {
  if (room_ != 0) return {};
  const auto room = injector_.call(
      "taking a page of memory in process " + std::to_string(pid()), SYS_mmap,
      {0, kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, ~std::uint64_t{0}, 0});
  if (!room) return room.error();
  room_ = *room;
  return {};
}

Status Visit::open() {
  if (ours_) return {};
  const std::string who = " in process " + std::to_string(pid());
  process_ = open_process(pid());
  if (!process_) return system_error("watching process " + std::to_string(pid()));
  if (Status room = take_room(); !room) return room;
  if (const auto made = injector_.call("making a socket pair" + who, SYS_socketpair,
                                       {AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, room_});
      !made)
    return made.error();
  int ends[2];
  if (Status got = injector_.read(room_, ends, sizeof ends); !got) return got;
  theirs_ = ends[1];
  auto ours = take(ends[0]);
  close(ends[0]);
  if (!ours) return ours.error();
  ours_ = std::move(*ours);
  return {};
}

Result<UniqueFd> Visit::take(int fd) {
  UniqueFd taken(static_cast<int>(::syscall(SYS_pidfd_getfd, process_.get(), fd, 0)));
  if (!taken) return system_error("taking a descriptor from process " + std::to_string(pid()));
  return taken;
}

Result<std::vector<int>> Visit::give(std::initializer_list<int> fds) {
  if (Status opened = open(); !opened) return opened.error();
  const std::string what = "putting a descriptor into process " + std::to_string(pid());
  // Both ways alike, but for where things are.
  Letter letter{};
  const std::size_t bytes = fds.size() * sizeof(int);
  letter.header.msg_iovlen = 1;
  letter.header.msg_controllen = CMSG_SPACE(bytes);
  letter.part.iov_len = 1;
  Letter sent = letter;
  sent.header.msg_iov = &sent.part;
  sent.part.iov_base = sent.byte;
  sent.header.msg_control = sent.control;
  cmsghdr* const head = CMSG_FIRSTHDR(&sent.header);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(bytes);
  std::memcpy(CMSG_DATA(head), fds.begin(), bytes);
  if (::sendmsg(ours_.get(), &sent.header, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
    return system_error(what);
  const auto there = [&](std::size_t offset) { return reinterpret_cast<void*>(room_ + offset); };
  letter.header.msg_iov = static_cast<iovec*>(there(offsetof(Letter, part)));
  letter.part.iov_base = there(offsetof(Letter, byte));
  letter.header.msg_control = there(offsetof(Letter, control));
  if (Status put = injector_.write(room_, &letter, sizeof letter); !put) return put.error();
  if (const auto got = injector_.call(what, SYS_recvmsg,
                                      {word(theirs_), room_, MSG_CMSG_CLOEXEC | MSG_DONTWAIT});
      !got)
    return got.error();
  if (Status got = injector_.read(room_, &letter, sizeof letter); !got) return got.error();
  cmsghdr arrived{};
  std::memcpy(&arrived, letter.control, sizeof arrived);
  std::vector<int> numbers(letter.header.msg_controllen >= sizeof arrived &&
                                   arrived.cmsg_len > CMSG_LEN(0)
                               ? (arrived.cmsg_len - CMSG_LEN(0)) / sizeof(int)
                               : 0);
  std::memcpy(numbers.data(), letter.control + CMSG_LEN(0), numbers.size() * sizeof(int));
  given_.insert(given_.end(), numbers.begin(), numbers.end());
  if (numbers.size() != fds.size())
    return make_error(ErrorCode::kSystem, what + ": it has too many open files", EMFILE);
  return numbers;
}

Status Visit::map(const SharedArea& area, int fd) {
  const auto mapped =
      injector_.call("mapping memory in process " + std::to_string(pid()), SYS_mmap,
                     {area.address, area.bytes, static_cast<std::uint64_t>(area.protection),
                      MAP_SHARED | MAP_FIXED | MAP_NORESERVE, word(fd), area.offset});
  return mapped ? Status() : Status(mapped.error());
}

Status Visit::lock(const std::string& what, int fd, const struct flock& record) {
  if (Status room = take_room(); !room) return room;
  if (Status put = injector_.write(room_, &record, sizeof record); !put) return put;
  const auto locked = injector_.call(what, SYS_fcntl, {word(fd), F_SETLK, room_});
  return locked ? Status() : Status(locked.error());
}

Status Visit::alarm(int which, const timeval& left) {
  if (Status room = take_room(); !room) return room;
  const itimerval timer{{}, left};
  if (Status put = injector_.write(room_, &timer, sizeof timer); !put) return put;
  const auto set = injector_.call("setting a timer of process " + std::to_string(pid()),
                                  SYS_setitimer, {word(which), room_, 0});
  return set ? Status() : Status(set.error());
}

Result<UniqueFd> Visit::make_uffd(int device) {
  if (Status opened = open(); !opened) return opened.error();
  const std::string what = "making a userfaultfd in process " + std::to_string(pid());
  auto made =
      device < 0 ? Result<std::uint64_t>(make_error(ErrorCode::kUnsupported, what, ENODEV))
                 : injector_.call(what, SYS_ioctl, {word(device), USERFAULTFD_IOC_NEW, kUffdFlags});
  if (!made) made = injector_.call(what, SYS_userfaultfd, {kUffdFlags});
  if (!made)
    return make_error(
        made.error().code,
        made.error().context +
            " (its user may not: give gobd /dev/userfaultfd, which it hands to programs, "
            "or run sysctl vm.unprivileged_userfaultfd=1)",
        made.error().errno_value);
  auto uffd = take(static_cast<int>(*made));
  close(static_cast<int>(*made));
  if (!uffd) return uffd;
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = kUffdNewsFeatures;
  if (::ioctl(uffd->get(), UFFDIO_API, &api) != 0) return system_error(what + ": the handshake");
  return uffd;
}

Result<Visit*> Visits::to(pid_t pid) {
  auto visit = visits_.find(pid);
  if (visit == visits_.end()) {
    auto begun = Visit::begin(pid, limit_);
    if (!begun) return begun.error();
    visit = visits_.emplace(pid, std::move(*begun)).first;
  }
  return &visit->second;
}

}  // namespace gob::migration
