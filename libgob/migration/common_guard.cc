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
#include <map>
#include <set>
#include <thread>
#include <vector>

#include "libgob/base/file_limit.h"
#include "libgob/base/ids.h"
#include "libgob/container/container_record.h"
#include "libgob/migration/common_container.h"
#include "libgob/migration/common_gobd.h"
#include "libgob/migration/common_loss.h"
#include "libgob/migration/common_lost.h"
#include "libgob/migration/common_memory.h"
#include "libgob/migration/hear_word.h"
#include "libgob/migration/inspect.h"
#include "libgob/migration/proc.h"

namespace gob::migration {
namespace {

constexpr std::chrono::seconds kPatience{60};
// No event says that gobd has room for another program, or what others fork meanwhile.
constexpr std::chrono::milliseconds kPause{200};
// How often it looks for programs that it cannot find, and only refuses what they miss: at first,
// and after a while. It looks at all processes then.
constexpr std::chrono::milliseconds kLook{1000}, kMostLook{10'000};
constexpr int kRounds = 16;   // without a pause, of children that are forked meanwhile
constexpr int kReserve = 24;  // descriptors, to take memory away from processes
constexpr char kHold = 'h', kRelease = 'r', kUse = 'u', kDone = 'd', kKey = 'k';

struct Ward {
  UniqueFd process;  // as long as it is ours, the number means that process
  std::vector<UniqueFd> uffds;
};

// Until nobody has the other end any more.
void await_end(int socket) {
  pollfd hung_up{socket, 0, 0};
  while (::poll(&hung_up, 1, -1) < 0 && errno == EINTR) continue;
}

void await(int over) {
  pollfd waiting{over, POLLIN, 0};
  ::poll(&waiting, 1, -1);
}

// Nobody of this node uses the containers any more: if nobody else does, they go. `used`: the
// numbers of the keeper's locks there. gobd may have no room for another program at first.
void give_up(const std::string& gobd, const std::map<std::string, int>& used) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  for (bool gone = false; !gone && gobd_lives(gobd) && std::chrono::steady_clock::now() < end;) {
    try {
      const gobelins::Connection gob(gobd);
      gone = true;
      for (const auto& [name, keeper] : used) {
        auto container = CommonContainer::open(gob, name);
        if (container && container->succeed(keeper)) gone = container->leave().ok() && gone;
      }
    } catch (const std::system_error&) {
      gone = false;
    }
    if (!gone) std::this_thread::sleep_for(kPause);
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
  std::uint64_t memory = 0;
  char container[kMaxNameBytes + 1] = {};
};

void CommonGuard::guard(int socket, const std::string& gobd, int news) {
  ::prctl(PR_SET_NAME, "gobmigrate-cgd");
  ::setsid();
  const UniqueFd over(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));  // now there is room for it
  if (!over) ::_exit(1);                                          // the keeper hears of that
  KeepersGobd keepers_gobd(gobd);
  std::map<pid_t, Ward> wards;
  std::set<int> keys;
  std::map<std::string, int> used;
  std::set<std::uint64_t> memories;  // this node's files of them: others have the same names
  Word word;
  UniqueFd fd;
  Heard heard = Heard::kNothing;
  const auto note = [&] {
    if (word.what == kDone) end_with(keys);
    if (word.what == kKey) keys.insert(word.number);
    if (word.what == kUse) used[word.container] = word.number;
    if (word.what == kRelease) wards.erase(word.number);
    if (word.memory != 0) memories.insert(word.memory);
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
  // Else the keeper lives, and gobd answers.
  const bool answers = heard != Heard::kNoRoom;
  LostPrograms lost(news);
  for (auto& [pid, ward] : wards)
    for (UniqueFd& uffd : ward.uffds) lost.add(std::move(uffd));
  // Faults that gobd has read and not answered are heard anew.
  const auto wake = [&lost](const auto& pids) {
    for (const pid_t pid : pids)
      for (const auto& [name, area] : container_areas(pid)) lost.wake(area.address, area.bytes);
  };
  // Or until gobd dies.
  const auto refuse_for = [&](std::chrono::milliseconds limit) {
    const bool lived = keepers_gobd.state() != Gobd::kGone;
    const auto end = std::chrono::steady_clock::now() + limit;
    while (limit > limit.zero() && (keepers_gobd.state() != Gobd::kGone) == lived) {
      lost.answer(keepers_gobd.state());
      lost.await(-1, keepers_gobd.fd(), limit);
      limit = std::chrono::ceil<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    }
  };
  std::chrono::milliseconds look = kLook;
  bool given_up = false;
  for (int round = 0;; ++round) {
    if (answers) keepers_gobd.let_forget();
    const bool all_known = answers && lost.answer(keepers_gobd.state());
    std::set<pid_t> losers;
    for (const auto& [ward, held] : wards)
      if (held.process && ::syscall(SYS_pidfd_send_signal, held.process.get(), 0, nullptr, 0) == 0)
        for (const pid_t pid : tree_of(ward))
          if (pid == ward ? round == 0 : !container_areas(pid).empty()) losers.insert(pid);
    // A child whose parent has ended is in nobody's tree. It may be told from the programs of other
    // keepers only if there is no such keeper, or if all lose it, with gobd; else what it misses is
    // refused, and what it has is right, as long as this process has its userfaultfd.
    if (round > 0 && losers.empty()) {
      const std::vector<pid_t> users = users_of(memories);  // before others may get some
      if (users.empty() || (all_known && !lost.any_left())) break;
      if (!answers && round >= kRounds) break;
      if (!all_known || keepers_gobd.state() == Gobd::kGone || !has_keeper(gobd))
        losers.insert(users.begin(), users.end());
      else
        wake(users);
      if (losers.empty() && !std::exchange(given_up, true)) give_up(gobd, used);
    }
    wake(losers);
    lose_common(losers, over.get(), [&] {
      if (!answers) return await(over.get());
      lost.answer(keepers_gobd.state());
      lost.await(over.get(), keepers_gobd.fd());
    });
    if (round > 0 && losers.empty()) {
      refuse_for(look);
      look = std::min(2 * look, kMostLook);
    } else if (round >= kRounds) {
      std::this_thread::sleep_for(kPause);
    }
  }
  lost.clear();                     // who waits tries again, and meets the loss
  if (!answers) await_end(socket);  // the keeper lives, and may leave by itself
  if (!given_up) give_up(gobd, used);
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
  if (!send_word(socket_.get(), word, fd))
    return system_error("telling the guard of shared memory");
  return {};
}

Status CommonGuard::hold(pid_t pid, int uffd, std::uint64_t memory) {
  return say({kHold, pid, memory}, uffd);
}
Status CommonGuard::release(pid_t pid) { return say({kRelease, pid}); }
Status CommonGuard::uses(const std::string& container, int keeper) {
  Word word{kUse, keeper};
  container.copy(word.container, kMaxNameBytes);
  return say(word);
}
Status CommonGuard::hold_key(int segment) { return say({kKey, segment}); }
void CommonGuard::done() { static_cast<void>(say({kDone}).ok()); }

}  // namespace gob::migration
