// A process makes system calls for another one, and is afterwards what it was: threads, a system
// call that was interrupted, signals.
#include "libgob/migration/injector.h"

#include <gtest/gtest.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <utility>

#include "libgob/base/pipe.h"

namespace gob::migration {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kLimit{10};

// What the child and the test both see.
struct Board {
  std::atomic<int> ready{0};
  std::atomic<int> seen{0};
  std::atomic<std::uint64_t> count{0};
  std::atomic<int> futex{0};
};

class InjectorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    board = new (::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))
        Board;
  }
  void TearDown() override {
    if (child > 0) {
      ::kill(child, SIGKILL);
      ::waitpid(child, nullptr, 0);
    }
    ::munmap(board, 4096);
  }
  void start(const std::function<int()>& program) {
    child = ::fork();
    if (child == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::_exit(program());
    }
    while (board->ready == 0) std::this_thread::yield();
  }
  // It waits in system call `number`.
  void until_in(long number, pid_t thread) {
    const std::string path =
        "/proc/" + std::to_string(child) + "/task/" + std::to_string(thread) + "/syscall";
    for (long now = -1; now != number;) {
      std::ifstream file(path);
      if (!(file >> now)) now = -1;
    }
  }
  // Of its first thread; a sanitizer may have more.
  std::vector<Injector::Waiting> waiting(const Injector& injector) const {
    std::vector<Injector::Waiting> all = injector.waiting();
    std::erase_if(all, [this](const auto& each) { return each.thread != child; });
    return all;
  }
  int end() {
    int status = -1;
    ::waitpid(child, &status, 0);
    child = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
  }
  char state() const {
    std::string line;
    std::getline(std::ifstream("/proc/" + std::to_string(child) + "/stat"), line);
    return line[line.rfind(") ") + 2];
  }

  Board* board = nullptr;
  pid_t child = 0;
};

TEST_F(InjectorTest, CallsAreThoseOfTheProcess) {
  start([this] {
    board->ready = 1;
    while (board->seen == 0) ::usleep(100);
    return 5;
  });
  {
    auto injector = Injector::stop(child, kLimit);
    ASSERT_TRUE(injector) << injector.error().message();
    const auto pid = injector->call("asking who it is", SYS_getpid, {});
    ASSERT_TRUE(pid) << pid.error().message();
    EXPECT_EQ(static_cast<pid_t>(*pid), child);
    const auto memory = injector->call(
        "taking memory", SYS_mmap,
        {0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, ~std::uint64_t{0}, 0});
    ASSERT_TRUE(memory);
    const std::string text = "written from outside";
    ASSERT_TRUE(injector->write(*memory + 4096, text.data(), text.size()));
    std::string back(text.size(), ' ');
    ASSERT_TRUE(injector->read(*memory + 4096, back.data(), back.size()));
    EXPECT_EQ(back, text);
    const auto bad = injector->call("closing nothing", SYS_close, {12345});
    ASSERT_FALSE(bad);
    EXPECT_EQ(bad.error().errno_value, EBADF);
    board->seen = 1;
  }
  EXPECT_EQ(end(), 5);
}

TEST_F(InjectorTest, AReadThatWaitsGoesOn) {
  auto pipe = make_pipe();
  ASSERT_TRUE(pipe);
  start([&] {
    board->ready = 1;
    char byte = 0;
    return ::read(pipe->out.get(), &byte, 1) == 1 ? byte : 100 + errno;
  });
  for (int i = 0; i < 20; ++i) {
    // Let go, it is on its way back into the call for a moment.
    until_in(SYS_read, child);
    auto injector = Injector::stop(child, kLimit);
    ASSERT_TRUE(injector) << injector.error().message();
    const auto found = waiting(*injector);
    ASSERT_EQ(found.size(), 1U);
    EXPECT_EQ(found[0].number, static_cast<std::uint64_t>(SYS_read));
    ASSERT_TRUE(injector->call("asking who it is", SYS_getppid, {}));
  }
  const char byte = 42;
  ASSERT_EQ(::write(pipe->in.get(), &byte, 1), 1);
  EXPECT_EQ(end(), 42);
}

// It is restarted with what is left, not with all of it, nor ended early.
TEST_F(InjectorTest, ASleepTakesAsLongAsItShould) {
  start([this] {
    const auto begin = Clock::now();
    board->ready = 1;
    timespec left{0, 300'000'000};
    if (::nanosleep(&left, nullptr) != 0) return 100 + errno;
    return Clock::now() - begin >= std::chrono::milliseconds(300) ? 0 : 1;
  });
  for (int i = 0; i < 5; ++i) {
    auto injector = Injector::stop(child, kLimit);
    ASSERT_TRUE(injector);
    ASSERT_TRUE(injector->call("asking who it is", SYS_getpid, {}));
  }
  EXPECT_EQ(end(), 0);
}

TEST_F(InjectorTest, ThreadsThatComputeStandAndGoOn) {
  start([this] {
    std::vector<std::thread> threads;
    std::atomic<bool> wrong{false};
    for (int i = 0; i < 4; ++i)
      threads.emplace_back([&, i] {
        double x = i + 1;
        std::uint64_t sum = 0;
        while (board->seen == 0) {
          x = x * 1.5 / 1.5;
          sum += 3;
          if (sum % 3 != 0 || x < i + 0.5 || x > i + 1.5) wrong = true;
          ++board->count;
          board->ready = 1;
        }
      });
    for (auto& each : threads) each.join();
    return wrong ? 1 : 0;
  });
  for (int i = 0; i < 20; ++i) {
    auto injector = Injector::stop(child, kLimit);
    ASSERT_TRUE(injector) << injector.error().message();
    const std::uint64_t before = board->count;
    ASSERT_TRUE(injector->call("asking who it is", SYS_getpid, {}));
    EXPECT_EQ(board->count, before);
  }
  const std::uint64_t before = board->count;
  while (board->count == before) std::this_thread::yield();
  board->seen = 1;
  EXPECT_EQ(end(), 0);
}

std::atomic<int>* caught = nullptr;

TEST_F(InjectorTest, ASignalThatComesMeanwhileIsTakenAfterwardsAndOnce) {
  start([this] {
    caught = &board->seen;
    ::signal(SIGUSR1, [](int) { ++*caught; });
    board->ready = 1;
    while (board->count == 0) ::usleep(100);
    return board->seen.load();
  });
  {
    auto injector = Injector::stop(child, kLimit);
    ASSERT_TRUE(injector);
    ASSERT_TRUE(injector->call("asking who it is", SYS_getpid, {}));
    ::kill(child, SIGUSR1);
    for (int i = 0; i < 10; ++i) ASSERT_TRUE(injector->call("asking who it is", SYS_getpid, {}));
    EXPECT_EQ(board->seen, 0);
  }
  while (board->seen == 0) std::this_thread::yield();
  board->count = 1;
  EXPECT_EQ(end(), 1);
}

TEST_F(InjectorTest, AStoppedProcessStaysStoppedAndOneThatIsToStopDoes) {
  start([this] {
    board->ready = 1;
    while (board->seen == 0) ::usleep(100);
    return 3;
  });
  ::kill(child, SIGSTOP);
  ASSERT_EQ(::waitpid(child, nullptr, WUNTRACED), child);
  for (int i = 0; i < 5; ++i) {
    {
      auto injector = Injector::stop(child, kLimit);
      ASSERT_TRUE(injector) << injector.error().message();
      ASSERT_TRUE(injector->call("asking who it is", SYS_getpid, {}));
    }
    EXPECT_EQ(state(), 'T');
  }
  ::kill(child, SIGCONT);
  {
    auto injector = Injector::stop(child, kLimit);
    ASSERT_TRUE(injector);
    ::kill(child, SIGSTOP);
    ASSERT_TRUE(injector->call("asking who it is", SYS_getpid, {}));
    ASSERT_TRUE(injector->call("asking who it is", SYS_getpid, {}));
  }
  while (state() != 'T') std::this_thread::yield();
  ::kill(child, SIGCONT);
  board->seen = 1;
  EXPECT_EQ(end(), 3);
}

TEST_F(InjectorTest, AThreadInAFutexIsSeenThere) {
  start([this] {
    board->ready = 1;
    ::syscall(SYS_futex, &board->futex, FUTEX_WAIT, 0, nullptr, nullptr, 0);
    return 4;
  });
  until_in(SYS_futex, child);
  {
    auto injector = Injector::stop(child, kLimit);
    ASSERT_TRUE(injector);
    const auto found = waiting(*injector);
    ASSERT_EQ(found.size(), 1U);
    EXPECT_EQ(found[0].number, static_cast<std::uint64_t>(SYS_futex));
    EXPECT_EQ(found[0].arguments[0], reinterpret_cast<std::uint64_t>(&board->futex));
    ASSERT_TRUE(injector->call("asking who it is", SYS_getpid, {}));
    EXPECT_EQ(waiting(*injector).at(0).number, static_cast<std::uint64_t>(SYS_futex));
  }
  until_in(SYS_futex, child);
  ::syscall(SYS_futex, &board->futex, FUTEX_WAKE, 1, nullptr, nullptr, 0);
  EXPECT_EQ(end(), 4);
}

TEST_F(InjectorTest, AProcessThatIsGoneIsAnError) {
  start([this] {
    board->ready = 1;
    return 0;
  });
  const pid_t gone = child;
  end();
  const auto injector = Injector::stop(gone, kLimit);
  ASSERT_FALSE(injector);
  EXPECT_EQ(injector.error().code, ErrorCode::kLost);
}

// Its first thread waits where nothing stops it when it is killed. The end of that is told when the
// end of the other one has been heard, which comes later in turn.
TEST_F(InjectorTest, AProcessThatIsKilledWhileItIsBeingStoppedHasEnded) {
  start([this] {
    std::thread([this] {
      board->futex = static_cast<int>(::syscall(SYS_gettid));
      for (;;) ::pause();
    }).detach();
    while (board->futex == 0) std::this_thread::yield();
    const pid_t own = ::vfork();  // NOLINT: this is the one call that does that
    if (own == 0) {
      board->ready = 1;
      while (board->seen == 0) ::usleep(1000);
      ::_exit(0);
    }
    return 0;
  });
  std::thread killer([this] {
    for (const pid_t thread : {child, static_cast<pid_t>(board->futex)}) {
      const std::string path =
          "/proc/" + std::to_string(child) + "/task/" + std::to_string(thread) + "/status";
      for (std::string word, tracer = "0"; tracer == "0";) {
        std::ifstream status(path);
        while (status >> word && word != "TracerPid:") continue;
        if (!(status >> tracer)) break;
      }
    }
    ::kill(child, SIGKILL);
  });
  const auto injector = Injector::stop(child, kLimit);
  killer.join();
  board->seen = 1;
  ASSERT_FALSE(injector);
  EXPECT_EQ(injector.error().code, ErrorCode::kLost) << injector.error().message();
  // This process is its parent, too: nothing is left to be waited for.
  EXPECT_NE(::kill(std::exchange(child, 0), 0), 0);
}

}  // namespace
}  // namespace gob::migration
