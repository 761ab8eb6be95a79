// A program whose processes have memory in common, and that knows nothing of gob. Each counts in
// it, and checks that nothing in it is lost, old, or wrong.
//
//   commoner NAME KIND PAGES [wait | fork | mutex]
//
// KIND: anonymous (MAP_SHARED | MAP_ANONYMOUS), memfd (mapped, then closed), open (memfd that stays
// open), segment (System V), key (one that has a key: 0x60b00000 + the number of the process). The
// process has a child, in a session of its own; they write a line a round to NAME and NAME.child,
// "ROUND wrong WORDS", until NAME.stop is there: then their rounds go to NAME.end and
// NAME.child.end, with the sum of all. wait: the child waits in the memory for the parent's word (a
// futex), which comes when NAME.wake is there; then it writes NAME.woken. fork: in each round both
// fork a child, which adds to the sum and checks, too, and forks one of its own. mutex: each waits
// for its turn, by a mutex and a condition of pthread(7) in the memory.
//
// When NAME.brood is there the parent forks 24 children at once (also the child: NAME.child.brood),
// each of which only checks, and writes to NAME.brood.0 to .23.
// When NAME.hire is there the parent forks a worker that does the same as the others, to
// NAME.worker (also as NAME.child.hire, of the child). Then NAME.remap: mremap(2) of all of it;
// NAME.split: of a part; NAME.cut: munmap(2) of its second half, which it does not use any more.
// When NAME.hold is there, a thread of it waits where nothing stops it, in the kernel, until
// NAME.free is there. It does when NAME.held is; the others do not touch the memory any more once
// they have split it.
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kPattern = 1024;  // of each page, from here on

struct Head {
  std::atomic<std::uint64_t> sum;
  std::atomic<int> word;
  pthread_mutex_t mutex;
  pthread_cond_t turned;
  std::uint64_t turn;
  bool ended;
};
constexpr int kWorker = 2;  // parent, child, worker of the parent, of the child

[[noreturn]] void die(const char* what) {
  std::perror(what);
  std::exit(1);
}

char* make(const std::string& kind, std::size_t bytes) {
  void* at = MAP_FAILED;
  if (kind == "anonymous")
    at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (kind == "memfd" || kind == "open") {
    const int fd = ::memfd_create("pool", MFD_CLOEXEC);
    if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(bytes)) != 0) die("memfd");
    at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (kind == "memfd") ::close(fd);
  }
  if (kind == "segment") at = ::shmat(::shmget(IPC_PRIVATE, bytes, 0600), nullptr, 0);
  if (kind == "key")
    at = ::shmat(::shmget(0x60b00000 + ::getpid(), bytes, IPC_CREAT | IPC_EXCL | 0600), nullptr, 0);
  if (at == MAP_FAILED) die("making the memory");
  return static_cast<char*>(at);
}

char pattern(std::size_t page, std::size_t at) {
  return static_cast<char>((page * 131 + at * 7) % 251);
}

bool exists(const std::string& name) { return ::access(name.c_str(), F_OK) == 0; }

void add_line(const std::string& name, const std::string& line) {
  const int fd = ::open(name.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0 || ::write(fd, line.data(), line.size()) < 0) die(name.c_str());
  ::close(fd);
}

struct Work {
  std::string name, stop, mode;
  char* memory;
  std::size_t pages;
  int self;
};

// One look at some pages, and a word added: how many were wrong.
std::uint64_t check(const Work& work, std::uint64_t round) {
  reinterpret_cast<Head*>(work.memory)->sum.fetch_add(1);
  std::uint64_t wrong = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    const std::size_t at = 1 + (round * 4 + i) % (work.pages - 1);
    for (std::size_t byte = kPattern; byte < kPage; ++byte)
      wrong += work.memory[at * kPage + byte] != pattern(at, byte);
  }
  return wrong;
}

// A child does it, and one of its own: none of them is there later. 255: it was killed.
std::uint64_t check_by_children(const Work& work, std::uint64_t round, int generations) {
  const pid_t child = ::fork();
  if (child < 0) die("fork");
  if (child == 0) {
    std::uint64_t wrong = check(work, round);
    if (generations > 1) wrong += check_by_children(work, round + 1, generations - 1);
    ::_exit(static_cast<int>(std::min<std::uint64_t>(wrong, 254)));
  }
  int status = 0;
  if (::waitpid(child, &status, 0) != child) die("waitpid");
  return WIFEXITED(status) ? static_cast<std::uint64_t>(WEXITSTATUS(status)) : 255;
}

// Waits for its turn, and passes it on: whether what it found was right.
bool take_turn(Head& head, int self) {
  ::pthread_mutex_lock(&head.mutex);
  while (!head.ended && head.turn % 2 != static_cast<std::uint64_t>(self))
    ::pthread_cond_wait(&head.turned, &head.mutex);
  const bool right = head.ended || head.turn % 2 == static_cast<std::uint64_t>(self);
  if (!head.ended) ++head.turn;
  ::pthread_cond_broadcast(&head.turned);
  ::pthread_mutex_unlock(&head.mutex);
  return right;
}

struct Names {
  std::string held, free;
};

// In a process that shares the memory with one whose thread waits for its end, as with vfork(2).
int wait_for_free(void* argument) {
  const Names& names = *static_cast<const Names*>(argument);
  ::close(::open(names.held.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  while (::access(names.free.c_str(), F_OK) != 0) ::usleep(10'000);
  return 0;
}

void hold_a_thread(const Work& work) {
  static Names names;
  static std::vector<char> stack(64 << 10);
  names = {work.name + ".held", work.name + ".free"};
  std::thread([] {
    ::clone(wait_for_free, stack.data() + stack.size(), CLONE_VM | CLONE_VFORK | SIGCHLD, &names);
  }).detach();
}

void change_places(Work& work) {
  const std::size_t bytes = work.pages * kPage;
  const bool all = exists(work.name + ".remap");
  if (all || exists(work.name + ".split")) {
    void* const room = ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const std::size_t moved = all ? bytes : bytes / 2;
    void* const now = ::mremap(work.memory, moved, moved, MREMAP_MAYMOVE | MREMAP_FIXED, room);
    if (now == MAP_FAILED) die("mremap");
    work.memory = static_cast<char*>(now);
    work.pages = moved / kPage;
    ::unlink((work.name + (all ? ".remap" : ".split")).c_str());
    while (!all && exists(work.name + ".held") && !exists(work.name + ".free"))
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  if (exists(work.name + ".cut")) {
    work.pages /= 2;
    if (::munmap(work.memory + work.pages * kPage, bytes - work.pages * kPage) != 0) die("munmap");
    ::unlink((work.name + ".cut").c_str());
  }
}

constexpr int kBrood = 24;

void raise_brood(const Work& work) {
  for (int i = 0; i < kBrood; ++i) {
    if (::fork() != 0) continue;
    const std::string name = work.name + ".brood." + std::to_string(i);
    std::uint64_t wrong = 0;
    for (std::uint64_t round = 1; !exists(work.stop); ++round) {
      wrong += check(work, round);
      add_line(name, std::to_string(round) + " wrong " + std::to_string(wrong) + "\n");
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    ::_exit(0);
  }
}

int run(Work work) {
  std::vector<std::uint64_t> mine(work.pages), theirs(work.pages);
  std::uint64_t round = 0, added = 0, wrong = 0;
  while (!exists(work.stop)) {
    auto& head = *reinterpret_cast<Head*>(work.memory);
    ++round;
    wrong += check(work, round);
    ++added;
    for (std::size_t i = 0; i < 4; ++i) {
      const std::size_t at = 1 + (round * 4 + i) % (work.pages - 1);
      auto* const own = reinterpret_cast<std::atomic<std::uint64_t>*>(work.memory + at * kPage);
      wrong += own[work.self] != mine[at];
      own[work.self] = mine[at] = round;
      const std::uint64_t other = own[work.self == 0 ? 1 : 0];
      wrong += other < theirs[at];
      theirs[at] = other;
    }
    if (work.mode == "fork") {
      wrong += check_by_children(work, round, 2);
      added += 2;
    }
    if (work.mode == "mutex") wrong += !take_turn(head, work.self);
    add_line(work.name, std::to_string(round) + " wrong " + std::to_string(wrong) + "\n");
    std::this_thread::sleep_for(
        std::chrono::milliseconds(2));  // or it would take the cores from the nodes
    change_places(work);
    if (exists(work.name + ".hold")) {
      ::unlink((work.name + ".hold").c_str());
      hold_a_thread(work);
    }
    if (exists(work.name + ".brood")) {
      ::unlink((work.name + ".brood").c_str());
      raise_brood(work);
    }
    if (work.self < kWorker && exists(work.name + ".hire")) {
      ::unlink((work.name + ".hire").c_str());
      if (::fork() == 0) {
        work.name += ".worker";
        work.self += kWorker;
        ::_exit(run(work));
      }
    }
  }
  auto& head = *reinterpret_cast<Head*>(work.memory);
  if (work.mode == "mutex") {
    ::pthread_mutex_lock(&head.mutex);
    head.ended = true;
    ::pthread_cond_broadcast(&head.turned);
    ::pthread_mutex_unlock(&head.mutex);
  }
  add_line(work.name + ".end", std::to_string(added) + " " + std::to_string(wrong) + " " +
                                   std::to_string(head.sum.load()) + "\n");
  return wrong == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  const std::string name = argv[1];
  const std::size_t pages = std::strtoul(argv[3], nullptr, 10);
  const std::string mode = argc > 4 ? argv[4] : "";
  const bool waits = mode == "wait";
  char* const memory = make(argv[2], pages * kPage);
  for (std::size_t page = 1; page < pages; ++page)
    for (std::size_t at = kPattern; at < kPage; ++at) memory[page * kPage + at] = pattern(page, at);
  const std::string stop = name + ".stop";
  auto& head = *reinterpret_cast<Head*>(memory);
  pthread_mutexattr_t shared;
  ::pthread_mutexattr_init(&shared);
  ::pthread_mutexattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
  ::pthread_mutex_init(&head.mutex, &shared);
  pthread_condattr_t shared_too;
  ::pthread_condattr_init(&shared_too);
  ::pthread_condattr_setpshared(&shared_too, PTHREAD_PROCESS_SHARED);
  ::pthread_cond_init(&head.turned, &shared_too);
  if (mode != "fork") std::signal(SIGCHLD, SIG_IGN);
  if (::fork() == 0) {
    ::setsid();
    std::thread waiter;
    if (waits)
      waiter = std::thread([&] {
        while (head.word == 0) ::syscall(SYS_futex, &head.word, FUTEX_WAIT, 0, nullptr, nullptr, 0);
        add_line(name + ".woken", "woken\n");
      });
    const int result = run({name + ".child", stop, mode, memory, pages, 1});
    if (waits) waiter.join();
    return result;
  }
  std::thread waker;
  if (waits)
    waker = std::thread([&] {
      while (!exists(name + ".wake") && !exists(stop))
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      head.word = 1;
      ::syscall(SYS_futex, &head.word, FUTEX_WAKE, 100, nullptr, nullptr, 0);
    });
  const int result = run({name, stop, mode, memory, pages, 0});
  if (waits) waker.join();
  return result;
}
