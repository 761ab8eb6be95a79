// Memory of stopped processes as a container (ServeProcesses, CopyPages), with real nodes and real
// processes: other nodes read its bytes, or get an error, and never zeros or a hang.
#include "libgob/linker/process_memory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "libgob/migration/page_mover.h"
#include "tests/system/nodes.h"

namespace gob {
namespace {

using migration::PageMover;
using Use = PageMover::Use;

constexpr std::uint64_t kPages = 600;
constexpr int kPatienceMs = 60'000;
const std::string kName = "live";

DaemonConfig settings() {
  DaemonConfig config;
  config.cluster = "processes";
  config.budget_bytes = std::uint64_t{64} << 20;
  config.page_timeout_ms = 3000;
  return config;
}

std::uint64_t word_of(const PageMover& mover, std::uint64_t page) {
  return *reinterpret_cast<const std::uint64_t*>(mover.lane(0) + page * kPageSize);
}

// A process that stands still, with kPages pages of memory: page i begins with `mark` + i.
class Stopped {
 public:
  explicit Stopped(std::uint64_t mark, bool lives = false) {
    void* const memory = ::mmap(nullptr, kPages * kPageSize, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT_NE(memory, MAP_FAILED);
    address_ = reinterpret_cast<std::uint64_t>(memory);
    pid_ = ::fork();
    if (pid_ == 0) {
      for (std::uint64_t i = 0; i < kPages; ++i)
        *reinterpret_cast<std::uint64_t*>(address_ + i * kPageSize) = mark + i;
      // What a program may not read itself is its memory all the same.
      ::mprotect(memory, kPageSize, PROT_NONE);
      ::raise(SIGSTOP);
      if (lives) ::pause();
      ::_exit(0);
    }
    int status = 0;
    EXPECT_EQ(::waitpid(pid_, &status, WUNTRACED), pid_);
    EXPECT_TRUE(WIFSTOPPED(status));
    ::munmap(memory, kPages * kPageSize);
    for (const char* const what : {"/mem", "/stat"})
      files_.emplace_back(
          ::open(("/proc/" + std::to_string(pid_) + what).c_str(), O_RDONLY | O_CLOEXEC));
  }
  ~Stopped() { end(); }
  Stopped(const Stopped&) = delete;
  Stopped& operator=(const Stopped&) = delete;

  void end() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  void go_on() const { ::kill(pid_, SIGCONT); }
  [[nodiscard]] std::array<int, 2> files() const { return {files_[0].get(), files_[1].get()}; }
  // Its page `i`, if it is told as the process of this index.
  [[nodiscard]] std::uint64_t page(std::uint64_t i, std::uint64_t index = 0) const {
    return index * ProcessMemory::kProcessPages + address_ / kPageSize + i;
  }

 private:
  std::uint64_t address_ = 0;
  pid_t pid_ = -1;
  std::vector<UniqueFd> files_;
};

class ProcessMemoryTest : public ::testing::Test {
 protected:
  explicit ProcessMemoryTest(unsigned nodes = 3)
      : nodes_(nodes, settings()), home_(open(0)), other_(open(1)) {}

  std::unique_ptr<PageMover> open(unsigned node) {
    auto mover = PageMover::open(nodes_.socket_of(node), 1);
    EXPECT_TRUE(mover.ok());
    return std::move(*mover);
  }
  // The container's number on the other node, which has opened it.
  std::uint32_t serve() {
    EXPECT_TRUE(home_->serve(kName).ok());
    const auto number = other_->find(kName, Use::kCopy);
    EXPECT_TRUE(number.ok());
    return *number;
  }
  std::future<Status> copy_later(std::uint32_t number, std::uint64_t page) {
    return std::async(std::launch::async,
                      [this, number, page] { return other_->copy(number, page, 1, 0, 0); });
  }

  Nodes nodes_;
  const std::unique_ptr<PageMover> home_;
  const std::unique_ptr<PageMover> other_;
};

TEST_F(ProcessMemoryTest, OtherNodesReadIt) {
  const Stopped first(1000);
  const Stopped second(2'000'000);
  const std::uint32_t number = serve();
  ASSERT_TRUE(home_
                  ->serve(kName, std::array{first.files()[0], first.files()[1], second.files()[0],
                                            second.files()[1]})
                  .ok());
  for (const unsigned node : {1U, 2U, 0U}) {
    const auto mover = open(node);
    ASSERT_EQ(*mover->find(kName, Use::kCopy), number);
    ASSERT_TRUE(mover->copy(number, first.page(0), PageMover::kLanePages, 0, 0).ok());
    for (std::uint64_t i = 0; i < PageMover::kLanePages; ++i)
      ASSERT_EQ(word_of(*mover, i), 1000 + i) << i;
    ASSERT_TRUE(mover->copy(number, second.page(kPages - 3, 1), 3, 0, 7).ok());
    for (std::uint64_t i = 0; i < 3; ++i)
      ASSERT_EQ(word_of(*mover, 7 + i), 2'000'000 + kPages - 3 + i);
    ASSERT_EQ(word_of(*mover, 6), 1000 + 6U);  // beside it nothing has changed
    ASSERT_EQ(word_of(*mover, 10), 1000 + 10U);
  }
}

TEST_F(ProcessMemoryTest, AsManyProcessesAsFit) {
  std::vector<std::unique_ptr<Stopped>> all;
  std::vector<int> files;
  for (std::uint64_t i = 0; i <= ProcessMemory::kMostProcesses; ++i) {
    all.push_back(std::make_unique<Stopped>(1000 * i));
    for (const int each : all.back()->files()) files.push_back(each);
  }
  const std::uint32_t number = serve();
  EXPECT_EQ(home_->serve(kName, files).error().errno_value, EINVAL);
  files.resize(ProcessMemory::kMostFds);
  ASSERT_TRUE(home_->serve(kName, files).ok());
  for (std::uint64_t i = 0; i < ProcessMemory::kMostProcesses; ++i) {
    ASSERT_TRUE(other_->copy(number, all[i]->page(5, i), 1, 0, 0).ok());
    EXPECT_EQ(word_of(*other_, 0), 1000 * i + 5);
  }
}

TEST_F(ProcessMemoryTest, WhoAsksEarlyWaits) {
  const Stopped process(1);
  const std::uint32_t number = serve();
  std::future<Status> early = copy_later(number, process.page(9));
  EXPECT_EQ(early.wait_for(std::chrono::milliseconds(100)), std::future_status::timeout);
  ASSERT_TRUE(home_->serve(kName, process.files()).ok());
  ASSERT_TRUE(early.get().ok());
  EXPECT_EQ(word_of(*other_, 0), 10U);
}

TEST_F(ProcessMemoryTest, WhoIsNeverToldGetsAnErrorInTime) {
  const Stopped process(1);
  const Status never = other_->copy(serve(), process.page(0), 1, 0, 0);
  EXPECT_EQ(never.error().code, ErrorCode::kLost) << never.error().message();
}

TEST_F(ProcessMemoryTest, WhatIsNotThereIsAnErrorAndNoZeros) {
  Stopped process(1);
  const std::uint32_t number = serve();
  ASSERT_TRUE(home_->serve(kName, process.files()).ok());
  EXPECT_FALSE(other_->copy(number, 0, 1, 0, 0).ok());  // no memory at that address
  EXPECT_FALSE(other_->copy(number, process.page(0, 1), 1, 0, 0).ok());  // no such process
  EXPECT_FALSE(other_->copy(number, kMaxPages - 1, 2, 0, 0).ok());
  ASSERT_TRUE(other_->copy(number, process.page(1), 1, 0, 0).ok());
  process.end();
  const Status ended = other_->copy(number, process.page(300), 1, 0, 0);
  EXPECT_EQ(ended.error().code, ErrorCode::kLost) << ended.error().message();
}

// What its threads do from then on is no business of who wanted the memory of one that stands
// still.
TEST_F(ProcessMemoryTest, OneThatGoesOnIsAnError) {
  const Stopped process(1, /*lives=*/true);
  const std::uint32_t number = serve();
  ASSERT_TRUE(home_->serve(kName, process.files()).ok());
  ASSERT_TRUE(other_->copy(number, process.page(1), 1, 0, 0).ok());
  process.go_on();
  EXPECT_FALSE(other_->copy(number, process.page(300), 1, 0, 0).ok());
}

TEST_F(ProcessMemoryTest, RemovedWhileSomebodyWaits) {
  const Stopped process(1);
  std::future<Status> waiting = copy_later(serve(), process.page(0));
  gobelins::Connection(nodes_.socket_of(0)).remove(kName);
  EXPECT_FALSE(waiting.get().ok());
  ASSERT_TRUE(home_->serve(kName).ok());  // the name is free
}

TEST_F(ProcessMemoryTest, ADeadHomeIsAnError) {
  const Stopped process(1);
  const std::uint32_t number = serve();
  ASSERT_TRUE(home_->serve(kName, process.files()).ok());
  nodes_.kill_node(0);
  EXPECT_FALSE(other_->copy(number, process.page(0), 1, 0, 0).ok());
  // Its next life serves nothing that it was not told.
  nodes_.start(0);
  nodes_.wait_ready();
  EXPECT_FALSE(other_->copy(number, process.page(0), 1, 0, 0).ok());
  gobelins::Connection(nodes_.socket_of(1)).remove(kName);
}

TEST_F(ProcessMemoryTest, IsOnlyRead) {
  const Stopped process(1);
  serve();
  ASSERT_TRUE(home_->serve(kName, process.files()).ok());
  // Not by root either.
  EXPECT_EQ(other_->find(kName, Use::kMove).error().errno_value, EACCES);
  const std::uint32_t number = *other_->find(kName, Use::kCopy);
  EXPECT_EQ(other_->take(number, process.page(0), 1, 0, 0).error().errno_value, EACCES);
  EXPECT_EQ(other_->put(number, process.page(0), 1, 0).error().errno_value, EACCES);
  EXPECT_NE(nodes_.detach(0, kName), "");
}

TEST_F(ProcessMemoryTest, WhatIsNoMemoryOfAProcess) {
  const Stopped process(1);
  serve();
  const auto refused = [&](const char* path, int flags) {
    const UniqueFd file(::open(path, flags | O_CLOEXEC));
    return home_->serve(kName, std::array{file.get(), process.files()[1]}).error().errno_value;
  };
  EXPECT_EQ(refused("/bin/sh", O_RDONLY), EINVAL);
  EXPECT_EQ(refused("/proc/self/mem", O_RDWR), EINVAL);
  EXPECT_EQ(home_->serve(kName).error().errno_value, EEXIST);
  const std::array memory = process.files();
  EXPECT_EQ(home_->serve(kName, std::array{memory[0]}).error().errno_value, EINVAL);
  EXPECT_EQ(home_->serve("other", memory).error().errno_value, ENOENT);
  EXPECT_EQ(other_->serve(kName, memory).error().errno_value, ENOENT);  // not its home
  gobelins::Connection(nodes_.socket_of(0)).create("memory", kPageSize);
  EXPECT_EQ(home_->serve("memory", memory).error().errno_value, ENOENT);
  ASSERT_TRUE(home_->serve(kName, memory).ok());
  EXPECT_EQ(home_->serve(kName, memory).error().errno_value, EBUSY);  // once
}

TEST_F(ProcessMemoryTest, IsForRootAndTheUserOfGobd) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to be somebody else";
  serve();
  ASSERT_EQ(::chmod(nodes_.folder().c_str(), 0755), 0);
  const pid_t stranger = nodes_.spawn(0, [&](gobelins::Connection&) {
    if (::setgid(65534) != 0 || ::setuid(65534) != 0) return false;
    const auto mover = PageMover::open(nodes_.socket_of(0), 1);
    return mover && (*mover)->serve("mine").error().errno_value == EPERM &&
           (*mover)->find(kName, Use::kCopy).error().errno_value == EACCES;
  });
  EXPECT_EQ(Nodes::wait_for(stranger, kPatienceMs), 0);
}

}  // namespace
}  // namespace gob
