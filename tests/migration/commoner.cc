// A program whose processes have memory in common, and that knows nothing of gob. Each counts in
// it, and checks that nothing in it is lost, old, or wrong.
//
//   commoner NAME KIND PAGES [WAIT]
//
// KIND: anonymous (MAP_SHARED | MAP_ANONYMOUS), memfd (mapped, then closed), open (memfd that stays
// open), segment (System V). The process has a child, in a session of its own; they write a line a
// round to NAME and NAME.child, "ROUND wrong WORDS", until NAME.stop is there: then their rounds go
// to NAME.end and NAME.child.end, with the sum of both. WAIT: the child waits in the memory for the
// parent's word (a futex), which comes when NAME.wake is there; then it writes NAME.woken.
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

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
};
struct Page {
  std::uint64_t own[2];  // by each process, round by round
};

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

int run(const std::string& name, const std::string& stop, char* memory, std::size_t pages,
        int self) {
  auto& head = *reinterpret_cast<Head*>(memory);
  std::vector<std::uint64_t> mine(pages), theirs(pages);
  std::uint64_t round = 0, wrong = 0;
  while (!exists(stop)) {
    ++round;
    head.sum.fetch_add(1);
    for (std::size_t i = 0; i < 4; ++i) {
      const std::size_t at = 1 + (round * 4 + i) % (pages - 1);
      char* const page = memory + at * kPage;
      auto* const own = reinterpret_cast<std::atomic<std::uint64_t>*>(page);
      wrong += own[self] != mine[at];
      own[self] = mine[at] = round;
      const std::uint64_t other = own[1 - self];
      wrong += other < theirs[at];
      theirs[at] = other;
      for (std::size_t byte = kPattern; byte < kPage; ++byte)
        wrong += page[byte] != pattern(at, byte);
    }
    add_line(name, std::to_string(round) + " wrong " + std::to_string(wrong) + "\n");
    std::this_thread::sleep_for(
        std::chrono::milliseconds(2));  // or it would take the cores from the nodes
  }
  add_line(name + ".end", std::to_string(round) + " " + std::to_string(wrong) + " " +
                              std::to_string(head.sum.load()) + "\n");
  return wrong == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  const std::string name = argv[1];
  const std::size_t pages = std::strtoul(argv[3], nullptr, 10);
  const bool waits = argc > 4;
  char* const memory = make(argv[2], pages * kPage);
  for (std::size_t page = 1; page < pages; ++page)
    for (std::size_t at = kPattern; at < kPage; ++at) memory[page * kPage + at] = pattern(page, at);
  const std::string stop = name + ".stop";
  auto& head = *reinterpret_cast<Head*>(memory);
  std::signal(SIGCHLD, SIG_IGN);
  if (::fork() == 0) {
    ::setsid();
    std::thread waiter;
    if (waits)
      waiter = std::thread([&] {
        while (head.word == 0) ::syscall(SYS_futex, &head.word, FUTEX_WAIT, 0, nullptr, nullptr, 0);
        add_line(name + ".woken", "woken\n");
      });
    const int result = run(name + ".child", stop, memory, pages, 1);
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
  const int result = run(name, stop, memory, pages, 0);
  if (waits) waker.join();
  return result;
}
