#include "libgob/migration/common_guard.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <gob.hpp>
#include <map>
#include <set>
#include <vector>

#include "libgob/migration/common_container.h"
#include "libgob/migration/common_memory.h"

namespace gob::migration {
namespace {

constexpr std::chrono::seconds kStops{3};
constexpr char kHold = 'h', kRelease = 'r', kDone = 'd';

struct Word {
  char what = 0;
  pid_t pid = 0;
};

struct Ward {
  UniqueFd process;  // as long as it is ours, the number means that process
  std::vector<UniqueFd> uffds;
};

// False: the other end is closed.
bool hear(int socket, Word& word, UniqueFd& fd) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  iovec part{&word, sizeof word};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (TEMP_FAILURE_RETRY(::recvmsg(socket, &message, MSG_CMSG_CLOEXEC)) <= 0) return false;
  if (const cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr) {
    int number = -1;
    std::memcpy(&number, CMSG_DATA(header), sizeof number);
    fd.reset(number);
  }
  return true;
}

// Nobody of this node uses the containers any more: if nobody else does, they go.
void give_up(const std::string& gobd, const std::set<std::string>& names) {
  try {
    const gobelins::Connection gob(gobd);
    for (const std::string& name : names)
      if (auto container = CommonContainer::open(gob, name); container && container->enter())
        static_cast<void>(container->leave().ok());
  } catch (const std::system_error&) {
    return;  // gobd has ended
  }
}

[[noreturn]] void guard(int socket, const std::string& gobd) {
  ::prctl(PR_SET_NAME, "gobmigrate-cgd");
  ::setsid();
  std::map<pid_t, Ward> wards;
  Word word;
  for (UniqueFd fd; hear(socket, word, fd); fd.reset()) {
    if (word.what == kDone) ::_exit(0);
    if (word.what == kRelease) wards.erase(word.pid);
    if (word.what != kHold) continue;
    Ward& ward = wards[word.pid];
    if (!ward.process) ward.process.reset(static_cast<int>(::syscall(SYS_pidfd_open, word.pid, 0)));
    ward.uffds.push_back(std::move(fd));
  }
  std::set<std::string> names;
  for (auto& [pid, ward] : wards)
    if (ward.process && ::syscall(SYS_pidfd_send_signal, ward.process.get(), 0, nullptr, 0) == 0) {
      for (const auto& [name, area] : container_areas(pid)) names.insert(name);
      lose_common(pid);
      ward.uffds.clear();  // who waits tries again, and meets the loss
    }
  give_up(gobd, names);
  ::_exit(0);
}

Status take_away(pid_t pid) {
  std::vector<NamedArea> areas = container_areas(pid);
  for (NamedArea& place : places_of(pid)) areas.push_back(std::move(place));
  if (areas.empty()) return {};
  const UniqueFd empty(::memfd_create("gob-lost", MFD_CLOEXEC));
  if (!empty) return system_error("creating an empty file");
  auto visit = Visit::begin(pid, kStops);
  if (!visit) return visit.error();
  const auto there = visit->give({empty.get()});
  if (!there) return there.error();
  for (auto& [name, area] : areas) {
    area.offset = 0;
    if (Status taken = visit->map(area, there->front()); !taken) return taken;
  }
  return {};
}

}  // namespace

void lose_common(pid_t pid) {
  if (!take_away(pid)) ::kill(pid, SIGKILL);
}

Result<CommonGuard> CommonGuard::start(const std::string& gobd) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
    return system_error("making a socket pair");
  UniqueFd ours(pair[0]);
  UniqueFd theirs(pair[1]);
  const pid_t pid = ::fork();
  if (pid < 0) return system_error("starting the guard of shared memory");
  if (pid == 0) {
    ours.reset();
    // Nor may it keep the keeper's link open.
    const auto mine = static_cast<unsigned>(theirs.get());
    if (mine > 3) ::close_range(3, mine - 1, 0);
    ::close_range(mine + 1, ~0U, 0);
    guard(theirs.get(), gobd);
  }
  return CommonGuard(std::move(ours));
}

Status CommonGuard::say(char what, pid_t pid, int fd) {
  Word word{what, pid};
  iovec part{&word, sizeof word};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  if (::sendmsg(socket_.get(), &message, MSG_NOSIGNAL) < 0)
    return system_error("telling the guard of shared memory");
  return {};
}

Status CommonGuard::hold(pid_t pid, int uffd) { return say(kHold, pid, uffd); }
Status CommonGuard::release(pid_t pid) { return say(kRelease, pid, -1); }
void CommonGuard::done() { static_cast<void>(say(kDone, 0, -1).ok()); }

}  // namespace gob::migration
