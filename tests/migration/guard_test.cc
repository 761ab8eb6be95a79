// The keeper of memory in common dies, and gobd with it, before it, after it or not: who has such
// memory gets SIGBUS, not SIGKILL and no zeros, however long it takes to stop, whatever it waits
// for in the kernel, and whoever knows of it.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <thread>

#include "libgob/base/ids.h"
#include "libgob/base/pipe.h"
#include "libgob/base/unique_fd.h"
#include "libgob/linker/mapping.h"
#include "libgob/linker/uffd_abi.h"
#include "libgob/linker/uffd_calls.h"
#include "libgob/linker/uffd_client.h"
#include "libgob/migration/common_guard.h"
#include "libgob/migration/common_mapper.h"
#include "libgob/migration/common_memory.h"
#include "libgob/migration/hear_word.h"
#include "tests/system/nodes.h"

namespace gob::migration {
namespace {

constexpr std::uint64_t kPages = 4;
constexpr int kWaitMs = 30'000;
constexpr std::chrono::milliseconds kLook{1};
const std::string kContainer = std::string(kCommonName) + "guard_test";

// The signal that ends a child; 0: it does not end, or by itself. The number is -1 once it has.
int await_signal_of(pid_t& pid) {
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  pollfd ended{process.get(), POLLIN, 0};
  int status = 0;
  if (::poll(&ended, 1, kWaitMs) != 1 || ::waitpid(pid, &status, 0) != pid) return 0;
  pid = -1;
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

// A program with a container's memory, and the userfaultfd of that.
class Program {
 public:
  // `life` gets the memory, of which the first pages are there, and the end of a pipe, and then
  // touches some.
  explicit Program(const std::function<void(volatile char*, int)>& life, std::size_t there = 0) {
    auto numbers = make_pipe();
    auto words = make_pipe();
    if (!numbers || !words) return;
    pid_ = ::fork();
    if (pid_ == 0) {
      const UniqueFd memory(::memfd_create(("gob:" + kContainer).c_str(), MFD_CLOEXEC));
      void* const at = ::ftruncate(memory.get(), kPages * kPageSize) == 0
                           ? ::mmap(nullptr, kPages * kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED,
                                    memory.get(), 0)
                           : MAP_FAILED;
      if (at != MAP_FAILED) std::memset(at, 'x', there * kPageSize);
      const UniqueFd uffd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
      uffdio_api api{};
      api.api = UFFD_API;
      api.features = kUffdNewsFeatures;
      if (at == MAP_FAILED || ::ioctl(uffd.get(), UFFDIO_API, &api) != 0 ||
          !register_mapping(uffd.get(), at, kPages * kPageSize))
        ::_exit(1);
      const Made made{uffd.get(), reinterpret_cast<std::uintptr_t>(at)};
      static_cast<void>(!::write(numbers->in.get(), &made, sizeof made));
      life(static_cast<volatile char*>(at), words->in.get());
      ::_exit(0);
    }
    words_ = std::move(words->out);
    numbers->in.reset();
    if (::read(numbers->out.get(), &made_, sizeof made_) != sizeof made_) return;
    const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
    uffd_.reset(static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), made_.uffd, 0)));
  }
  ~Program() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] int uffd() const { return uffd_.get(); }
  [[nodiscard]] std::uint64_t address() const { return made_.address; }
  // It forks: the userfaultfd of the child.
  [[nodiscard]] UniqueFd take_child() const {
    uffd_msg message{};
    pollfd event{uffd(), POLLIN, 0};
    if (::poll(&event, 1, kWaitMs) != 1 || uffd_read(uffd(), {&message, 1}) != 1 ||
        message.event != UFFD_EVENT_FORK)
      return {};
    return UniqueFd(static_cast<int>(message.arg.fork.ufd));
  }
  // It waits for a page, and nobody has heard of that; or, `heard`, somebody has.
  [[nodiscard]] bool await_fault(bool heard = false) const {
    const std::string path = "/proc/self/fdinfo/" + std::to_string(uffd());
    for (int left = kWaitMs; left > 0; --left) {
      char text[1024] = {};
      const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
      if (::read(file.get(), text, sizeof text - 1) <= 0) return false;
      const char* const line = std::strstr(text, "pending:");
      if (line != nullptr && (std::strtoul(line + 8, nullptr, 10) == 0) == heard) return true;
      std::this_thread::sleep_for(kLook);
    }
    return false;
  }
  // What it says; 0 if it ends instead.
  [[nodiscard]] char hear() const {
    char word = 0;
    pollfd said{words_.get(), POLLIN, 0};
    return ::poll(&said, 1, kWaitMs) == 1 && ::read(words_.get(), &word, 1) == 1 ? word : '\0';
  }
  int await_signal() { return await_signal_of(pid_); }

 private:
  struct Made {
    int uffd = -1;
    std::uint64_t address = 0;
  };
  Made made_;
  pid_t pid_ = -1;
  UniqueFd uffd_, words_;
};

class GuardTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "to take memory from programs needs root";
  }
  // After the program, which would have its socket, too.
  void start(const Program& program, const std::string& gobd = "/nowhere/gobd.sock") {
    auto news = NewsSocket::create();
    ASSERT_TRUE(news);
    news_.emplace(std::move(*news));
    auto guard = CommonGuard::start(gobd, news_->heard.get());
    ASSERT_TRUE(guard);
    guard_.emplace(std::move(*guard));
    ASSERT_TRUE(guard_->uses(kContainer, 0));
    const auto areas = container_areas(program.pid());
    ASSERT_EQ(areas.size(), 1U);
    ASSERT_TRUE(guard_->hold(program.pid(), program.uffd(), areas.front().second.inode));
  }
  void the_keeper_dies() {
    news_->heard.reset();
    guard_.reset();
  }
  void send_news_of(UniqueFd child) {
    ASSERT_TRUE(send_word(news_->told.get(), MappingNews{}, child.get()));
  }
  // Nobody but it has the other end of the news by then.
  bool guard_ends(int limit_ms) {
    pollfd ended{news_->told.get(), 0, 0};
    return ::poll(&ended, 1, limit_ms) == 1;
  }

 private:
  std::optional<NewsSocket> news_;
  std::optional<CommonGuard> guard_;
};

TEST_F(GuardTest, WhoTouchesTheMemoryGetsSigbus) {
  Program program([](volatile char* memory, int) { memory[0] = 1; });
  start(program);
  ASSERT_TRUE(program.await_fault());
  the_keeper_dies();
  EXPECT_EQ(program.await_signal(), SIGBUS);
}

TEST_F(GuardTest, ASystemCallThatWaitsForAPageGetsEfault) {
  Program program([](volatile char* memory, int words) {
    const bool refused = ::write(words, const_cast<char*>(memory), 1) < 0 && errno == EFAULT;
    static_cast<void>(!::write(words, refused ? "f" : "?", 1));
    memory[0] = 1;
  });
  start(program);
  ASSERT_TRUE(program.await_fault());
  the_keeper_dies();
  EXPECT_EQ(program.hear(), 'f');
  EXPECT_EQ(program.await_signal(), SIGBUS);
}

// A container has the same name on all nodes, and one machine may have several.
TEST_F(GuardTest, ProgramsOfOtherNodesKeepTheirs) {
  auto gate = make_pipe();
  ASSERT_TRUE(gate);
  Program other(
      [&](const volatile char* memory, int words) {
        char byte = 0;
        static_cast<void>(!::read(gate->out.get(), &byte, 1));
        byte = memory[0] == 'x' ? 'k' : '?';
        static_cast<void>(!::write(words, &byte, 1));
      },
      1);
  Program program([](volatile char*, int) { ::pause(); });
  start(program);
  the_keeper_dies();
  EXPECT_TRUE(guard_ends(kWaitMs));
  static_cast<void>(!::write(gate->in.get(), "g", 1));
  EXPECT_EQ(other.hear(), 'k');
}

// Nothing stops a process that waits for the end of vfork(2): like one on a machine that is too
// busy.
TEST_F(GuardTest, WhoDoesNotStopForLongIsNotKilled) {
  auto gate = make_pipe();
  ASSERT_TRUE(gate);
  Program program([&](volatile char* memory, int words) {
    gate->in.reset();
    const pid_t child = ::vfork();  // NOLINT: this is the one call that does that
    if (child == 0) {
      char byte = 0;
      static_cast<void>(!::write(words, "v", 1));
      static_cast<void>(!::read(gate->out.get(), &byte, 1));
      ::_exit(0);
    }
    memory[0] = 1;
  });
  start(program);
  EXPECT_EQ(program.hear(), 'v');
  the_keeper_dies();
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, program.pid(), 0)));
  pollfd killed{process.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&killed, 1, 6000), 0) << "it was killed";
  gate->in.reset();
  EXPECT_EQ(program.await_signal(), SIGBUS);
}

// A program, and a child of it whose userfaultfd nobody has but the socket that the guard reads
// from: the program is killed, then the keeper dies. The child says "z" if it can read what is not
// there.
class Orphan : public GuardTest {
 protected:
  void SetUp() override {
    GuardTest::SetUp();
    if (IsSkipped()) return;
    ASSERT_EQ(::prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    auto gate = make_pipe();
    auto pids = make_pipe();
    ASSERT_TRUE(gate && pids);
    program_.emplace([&](const volatile char* memory, int words) {
      const pid_t child = ::fork();
      if (child != 0) {
        static_cast<void>(!::write(pids->in.get(), &child, sizeof child));
        ::pause();
      }
      gate->in.reset();
      char byte = 0;
      static_cast<void>(!::read(gate->out.get(), &byte, 1));
      byte = memory[0] == 0 ? 'z' : '?';
      static_cast<void>(!::write(words, &byte, 1));
      ::_exit(0);
    });
    UniqueFd child = program_->take_child();
    ASSERT_TRUE(child);
    ASSERT_EQ(::read(pids->out.get(), &child_, sizeof child_), static_cast<ssize_t>(sizeof child_));
    gate_ = std::move(gate->in);
    start(*program_, gobd());
    send_news_of(std::move(child));
    ::kill(program_->pid(), SIGKILL);
    EXPECT_EQ(program_->await_signal(), SIGKILL);
  }
  void TearDown() override {
    if (child_ <= 0) return;
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }
  virtual std::string gobd() { return "/nowhere/gobd.sock"; }
  void touch() { gate_.reset(); }
  int await_signal_of_child() { return await_signal_of(child_); }

  std::optional<Program> program_;
  pid_t child_ = -1;
  UniqueFd gate_;
};

TEST_F(Orphan, OfAProgramThatHasEndedGetsSigbusWithoutGobd) {
  the_keeper_dies();
  EXPECT_TRUE(guard_ends(kWaitMs));
  touch();
  EXPECT_EQ(await_signal_of_child(), SIGBUS);
}

class OrphanOfANode : public Orphan {
 protected:
  static DaemonConfig settings() {
    DaemonConfig config;
    config.cluster = "guard";
    config.budget_bytes = std::uint64_t{16} << 20;
    config.shards = 2;
    return config;
  }
  std::string gobd() override { return nodes_.socket_of(0); }
  Nodes nodes_{1, settings()};
};

TEST_F(OrphanOfANode, GetsSigbusWhileGobdLives) {
  the_keeper_dies();
  EXPECT_TRUE(guard_ends(kWaitMs));
  touch();
  EXPECT_EQ(await_signal_of_child(), SIGBUS);
}

// It could be that one's program: nothing is taken from it, but it reads no zeros.
TEST_F(OrphanOfANode, IsGuardedAsLongAsItLivesBesideAnotherKeeper) {
  auto life = make_pipe();
  ASSERT_TRUE(life);
  const std::string name = nodes_.folder() + "/" + kKeeperName;
  ASSERT_EQ(::symlink("/bin/sh", name.c_str()), 0);
  const pid_t keeper = ::fork();
  if (keeper == 0) {
    ::dup2(life->out.get(), 0);
    life->in.reset();
    ::execl(name.c_str(), name.c_str(), "-c", "read word", "gobmigrate", "--socket", gobd().c_str(),
            nullptr);
    ::_exit(127);
  }
  for (int left = kWaitMs; left > 0 && !has_keeper(gobd()); --left)
    std::this_thread::sleep_for(kLook);
  the_keeper_dies();
  EXPECT_FALSE(guard_ends(3000)) << "nobody has the child's userfaultfd any more";
  touch();
  EXPECT_EQ(await_signal_of_child(), SIGBUS);
  EXPECT_TRUE(guard_ends(kWaitMs));
  life->in.reset();
  EXPECT_EQ(::waitpid(keeper, nullptr, 0), keeper);
}

// Until gobd has taken the page from it, it must not write there, and waits in the kernel. Then
// gobd is killed.
TEST_F(GuardTest, AWriteThatWaitsInTheKernelGoesOnWhenGobdDiesLater) {
  DaemonConfig config;
  config.cluster = "guard";
  config.budget_bytes = std::uint64_t{16} << 20;
  Nodes nodes(1, config);
  auto bytes = make_pipe();
  ASSERT_TRUE(bytes);
  Program program(
      [&](volatile char* memory, int words) {
        static_cast<void>(!::write(words, "b", 1));
        static_cast<void>(!::read(bytes->out.get(), const_cast<char*>(memory), 1));
        while (true) memory[0] = 1;  // until it is taken away
      },
      1);
  start(program, nodes.socket_of(0));
  EXPECT_EQ(program.hear(), 'b');
  ASSERT_EQ(uffd_protect(program.uffd(), program.address(), 1).outcome, UffdOutcome::kDone);
  static_cast<void>(!::write(bytes->in.get(), "w", 1));
  ASSERT_TRUE(program.await_fault());
  the_keeper_dies();
  ASSERT_TRUE(program.await_fault(true));
  nodes.kill_node(0);
  EXPECT_EQ(program.await_signal(), SIGBUS);
}

}  // namespace
}  // namespace gob::migration
