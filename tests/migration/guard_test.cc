// The keeper of memory in common dies, and gobd with it: who has such memory gets SIGBUS, not
// SIGKILL, however long it takes to stop, and whatever it waits for in the kernel.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
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
#include "libgob/linker/uffd_abi.h"
#include "libgob/linker/uffd_client.h"
#include "libgob/migration/common_guard.h"
#include "libgob/migration/common_mapper.h"
#include "libgob/migration/common_memory.h"

namespace gob::migration {
namespace {

constexpr std::uint64_t kPages = 4;
constexpr int kWaitMs = 30'000;
constexpr std::chrono::milliseconds kLook{1};

// A program with a container's memory, and the userfaultfd of that.
class Program {
 public:
  // `life` gets the memory, of which nothing is there, and the end of a pipe, and then touches
  // some.
  explicit Program(const std::function<void(volatile char*, int)>& life) {
    auto numbers = make_pipe();
    auto words = make_pipe();
    if (!numbers || !words) return;
    pid_ = ::fork();
    if (pid_ == 0) {
      const UniqueFd memory(
          ::memfd_create(("gob:" + std::string(kCommonName) + "guard_test").c_str(), MFD_CLOEXEC));
      void* const at = ::ftruncate(memory.get(), kPages * kPageSize) == 0
                           ? ::mmap(nullptr, kPages * kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED,
                                    memory.get(), 0)
                           : MAP_FAILED;
      const UniqueFd uffd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
      uffdio_api api{};
      api.api = UFFD_API;
      api.features = kUffdNewsFeatures;
      if (at == MAP_FAILED || ::ioctl(uffd.get(), UFFDIO_API, &api) != 0 ||
          !register_mapping(uffd.get(), at, kPages * kPageSize))
        ::_exit(1);
      const int number = uffd.get();
      static_cast<void>(!::write(numbers->in.get(), &number, sizeof number));
      life(static_cast<volatile char*>(at), words->in.get());
      ::_exit(0);
    }
    words_ = std::move(words->out);
    numbers->in.reset();
    int number = -1;
    if (::read(numbers->out.get(), &number, sizeof number) != sizeof number) return;
    const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
    uffd_.reset(static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), number, 0)));
  }
  ~Program() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] int uffd() const { return uffd_.get(); }
  // It waits for a page.
  [[nodiscard]] bool await_fault() const {
    const std::string path = "/proc/self/fdinfo/" + std::to_string(uffd());
    for (int left = kWaitMs; left > 0; --left) {
      char text[1024] = {};
      const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
      if (::read(file.get(), text, sizeof text - 1) <= 0) return false;
      const char* const line = std::strstr(text, "pending:");
      if (line != nullptr && std::strtoul(line + 8, nullptr, 10) > 0) return true;
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
  // The signal that ends it; 0: it does not end, or by itself.
  int await_signal() {
    const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
    pollfd ended{process.get(), POLLIN, 0};
    int status = 0;
    if (::poll(&ended, 1, kWaitMs) != 1 || ::waitpid(pid_, &status, 0) != pid_) return 0;
    pid_ = -1;
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  }

 private:
  pid_t pid_ = -1;
  UniqueFd uffd_, words_;
};

class GuardTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "to take memory from programs needs root";
  }
  // After the program, which would have its socket, too.
  void start(const Program& program) {
    auto news = NewsSocket::create();
    ASSERT_TRUE(news);
    news_.emplace(std::move(*news));
    auto guard = CommonGuard::start("/nowhere/gobd.sock", news_->heard.get());
    ASSERT_TRUE(guard);
    guard_.emplace(std::move(*guard));
    ASSERT_TRUE(guard_->hold(program.pid(), program.uffd()));
  }
  void the_keeper_dies() { guard_.reset(); }

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

}  // namespace
}  // namespace gob::migration
