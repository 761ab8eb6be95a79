#include "libgob/migration/common_guard.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <gob.hpp>
#include <iterator>
#include <map>
#include <set>
#include <thread>
#include <vector>

#include "libgob/base/file_limit.h"
#include "libgob/base/ids.h"
#include "libgob/container/container_record.h"
#include "libgob/linker/mapping.h"
#include "libgob/linker/uffd_abi.h"
#include "libgob/linker/uffd_calls.h"
#include "libgob/migration/common_container.h"
#include "libgob/migration/common_loss.h"
#include "libgob/migration/common_memory.h"
#include "libgob/migration/hear_word.h"
#include "libgob/migration/inspect.h"
#include "libgob/migration/proc.h"
#include "libgob/runtime/control_client.h"

namespace gob::migration {
namespace {

constexpr std::chrono::seconds kAnswer{2};
constexpr std::chrono::seconds kPatience{60};
constexpr std::chrono::milliseconds kPause{200};
constexpr int kRounds = 16;   // of children that are forked meanwhile
constexpr int kReserve = 24;  // descriptors, to take memory away from processes
constexpr char kHold = 'h', kRelease = 'r', kUse = 'u', kDone = 'd', kKey = 'k';

struct Ward {
  UniqueFd process;  // as long as it is ours, the number means that process
  std::vector<UniqueFd> uffds;
};

// gobd reads no more, and a program that forks waits until somebody has, or for a page. `alone`:
// gobd is gone. False: some may be left, for whose descriptors there is no room.
bool read_news(int news, std::vector<UniqueFd>& uffds, bool alone) {
  MappingNews word;
  for (UniqueFd child;;) {
    const Heard heard = hear_word(news, word, child, MSG_DONTWAIT | MSG_PEEK);
    if (heard == Heard::kNoRoom) return false;
    if (heard == Heard::kNothing) break;
    const bool last = child && is_among_last(child.get(), kReserve);
    if (child) uffds.push_back(std::move(child));
    drop_word(news);
    if (last) return false;
  }
  for (std::size_t i = 0; i < uffds.size(); ++i) {
    ::fcntl(uffds[i].get(), F_SETFL, ::fcntl(uffds[i].get(), F_GETFL) | O_NONBLOCK);
    for (uffd_msg message{}; ::read(uffds[i].get(), &message, sizeof message) == sizeof message;) {
      if (message.event == UFFD_EVENT_FORK)
        uffds.emplace_back(static_cast<int>(message.arg.fork.ufd));
      if (message.event == UFFD_EVENT_PAGEFAULT) refuse_fault(uffds[i].get(), message, alone);
    }
    if (errno == EMFILE || errno == ENFILE || is_among_last(uffds.back().get(), kReserve))
      return false;
  }
  return true;
}

// Nobody is left who could tell more than can be read.
bool has_hung_up(int news) {
  pollfd socket{news, 0, 0};
  return ::poll(&socket, 1, 0) == 1;
}

// Answers all there is, and waits for more, or until `over` is readable. False: some may be left.
bool answer_alone(int news, std::vector<UniqueFd>& uffds, int over) {
  const bool all_told = has_hung_up(news);
  const bool all_known = read_news(news, uffds, true);
  std::vector<pollfd> waiting{{over, POLLIN, 0}};
  if (all_known) {
    waiting.push_back({all_told ? -1 : news, POLLIN, 0});
    for (const UniqueFd& uffd : uffds) waiting.push_back({uffd.get(), POLLIN, 0});
  }
  ::poll(waiting.data(), waiting.size(), -1);
  return all_known;
}

// Until nobody has the other end any more.
void await_end(int socket) {
  pollfd hung_up{socket, 0, 0};
  while (::poll(&hung_up, 1, -1) < 0 && errno == EINTR) continue;
}

void await(int over) {
  pollfd waiting{over, POLLIN, 0};
  ::poll(&waiting, 1, -1);
}

// It may have much to do, or no descriptor for another connection: that is no death. One that dies
// while it is asked is not there any more the second time.
bool lives(const std::string& gobd) {
  for (int tries = 0; tries < 2; ++tries) {
    const auto connected = ControlClient::connect(gobd, "gobmigrate", kAnswer);
    if (connected || connected.error().code == ErrorCode::kTimedOut) return true;
    const int why = connected.error().errno_value;
    if (why == ECONNREFUSED || why == ENOENT) return false;
  }
  return true;
}

// Nobody of this node uses the containers any more: if nobody else does, they go. `used`: the
// numbers of the keeper's locks there. gobd may have no room for another program at first.
void give_up(const std::string& gobd, const std::map<std::string, int>& used) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  for (bool gone = false; !gone && lives(gobd) && std::chrono::steady_clock::now() < end;) {
    try {
      const gobelins::Connection gob(gobd);
      gone = true;
      for (const auto& [name, keeper] : used) {
        auto container = CommonContainer::open(gob, name);
        if (container && container->succeed(keeper)) gone = container->leave().ok() && gone;
      }
    } catch (const std::system_error&) {
      std::this_thread::sleep_for(kPause);
    }
  }
}

[[noreturn]] void end_with(const std::set<int>& keys) {
  for (const int segment : keys) ::shmctl(segment, IPC_RMID, nullptr);
  ::_exit(0);
}

}  // namespace

struct CommonGuard::Word {
  char what = 0;
  int number = 0;  // of a process, a segment or a lock
  char container[kMaxNameBytes + 1] = {};
};

void CommonGuard::guard(int socket, const std::string& gobd, int news) {
  ::prctl(PR_SET_NAME, "gobmigrate-cgd");
  ::setsid();
  const UniqueFd over(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));  // now there is room for it
  if (!over) ::_exit(1);                                          // the keeper hears of that
  std::map<pid_t, Ward> wards;
  std::set<int> keys;
  std::map<std::string, int> used;
  Word word;
  UniqueFd fd;
  Heard heard = Heard::kNothing;
  const auto note = [&] {
    if (word.what == kDone) end_with(keys);
    if (word.what == kKey) keys.insert(word.number);
    if (word.what == kUse) used[word.container] = word.number;
    if (word.what == kRelease) wards.erase(word.number);
  };
  while ((heard = hear_word(socket, word, fd)) == Heard::kWord) {
    note();
    if (word.what != kHold) continue;
    Ward& ward = wards[word.number];
    if (word.number > 0 && !ward.process) ward.process = open_process(word.number);
    const int highest = std::max(fd.get(), ward.process.get());
    if (fd) ward.uffds.push_back(std::move(fd));
    if (is_among_last(highest, kReserve)) {
      heard = Heard::kNoRoom;
      break;
    }
  }
  // Nobody would protect that process if the keeper died. What it says from now on fails.
  if (heard == Heard::kNoRoom) {
    std::fputs("the guard of shared memory has no file descriptor left: it takes the memory away\n",
               stderr);
    ::shutdown(socket, SHUT_RD);
    while (hear_word(socket, word, fd) != Heard::kNothing) note();
  }
  std::vector<UniqueFd> uffds;
  for (auto& [pid, ward] : wards) std::ranges::move(ward.uffds, std::back_inserter(uffds));
  std::set<std::uint64_t> inodes;
  const bool alone = !lives(gobd);
  for (int round = 0; round < kRounds; ++round) {
    bool all_known = heard != Heard::kNoRoom && read_news(news, uffds, alone);
    std::set<pid_t> losers;
    for (const auto& [ward, held] : wards)
      if (held.process && ::syscall(SYS_pidfd_send_signal, held.process.get(), 0, nullptr, 0) == 0)
        for (const pid_t pid : tree_of(ward))
          if (pid == ward ? round == 0 : !container_areas(pid).empty()) losers.insert(pid);
    // With gobd all lose it; else others may have keepers of their own.
    if (round > 0 && losers.empty() && (!all_known || alone || !lives(gobd)))
      for (const pid_t pid : users_of(inodes)) losers.insert(pid);
    for (const pid_t pid : losers)
      for (const auto& [name, area] : container_areas(pid)) {
        inodes.insert(area.inode);
        // Faults that gobd has read and not answered are heard anew.
        for (const UniqueFd& uffd : uffds)
          uffd_wake(uffd.get(), area.address, static_cast<unsigned>(area.bytes / kPageSize));
      }
    // If gobd lives, it answers faults of those that have lost their keeper (LostMemory).
    lose_common(losers, over.get(), [&] {
      if (alone && all_known)
        all_known = answer_alone(news, uffds, over.get());
      else
        await(over.get());
    });
    if (round > 0 && losers.empty()) break;
  }
  uffds.clear();  // who waits tries again, and meets the loss
  if (heard == Heard::kNoRoom) await_end(socket);  // the keeper lives, and may leave by itself
  give_up(gobd, used);
  end_with(keys);
}

Result<CommonGuard> CommonGuard::start(const std::string& gobd, int news) {
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
    const auto low = static_cast<unsigned>(std::min(theirs.get(), news));
    const auto high = static_cast<unsigned>(std::max(theirs.get(), news));
    if (low > 3) ::close_range(3, low - 1, 0);
    if (high > low + 1) ::close_range(low + 1, high - 1, 0);
    ::close_range(high + 1, ~0U, 0);
    guard(theirs.get(), gobd, news);
  }
  return CommonGuard(std::move(ours));
}

Status CommonGuard::say(const Word& word, int fd) {
  iovec part{const_cast<Word*>(&word), sizeof word};
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

Status CommonGuard::hold(pid_t pid, int uffd) { return say({kHold, pid}, uffd); }
Status CommonGuard::release(pid_t pid) { return say({kRelease, pid}); }
Status CommonGuard::uses(const std::string& container, int keeper) {
  Word word{kUse, keeper};
  container.copy(word.container, kMaxNameBytes);
  return say(word);
}
Status CommonGuard::hold_key(int segment) { return say({kKey, segment}); }
void CommonGuard::done() { static_cast<void>(say({kDone}).ok()); }

}  // namespace gob::migration
