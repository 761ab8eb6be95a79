// What the kernel says of mappings beside faults, on its way to whoever made them in the program.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <functional>
#include <future>
#include <vector>

#include "libgob/container/frame_pool.h"
#include "libgob/linker/lost_memory.h"
#include "libgob/linker/map_linker.h"
#include "libgob/linker/mapping.h"
#include "libgob/linker/uffd_abi.h"
#include "libgob/linker/uffd_calls.h"
#include "libgob/linker/uffd_client.h"
#include "libgob/migration/hear_word.h"

namespace gob::test {
namespace {

constexpr std::uint64_t kPages = 4;
constexpr int kWaitMs = 30'000;  // for what another thread does

// This process has a mapping with news, and forks; the test reads its userfaultfd as gobd does.
class MappingNewsTest : public testing::Test {
 protected:
  void SetUp() override {
    auto pool = FramePool::create("gob-test", kPages);
    ASSERT_TRUE(pool);
    pool_ = std::make_shared<const FramePool>(std::move(*pool));
    memory_.reset(::dup(*pool_->fd()));
    at_ = static_cast<char*>(
        ::mmap(nullptr, kPages * kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED, memory_.get(), 0));
    ASSERT_NE(at_, MAP_FAILED);
    UniqueFd uffd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
    uffdio_api api{};
    api.api = UFFD_API;
    api.features = kUffdNewsFeatures;
    if ((!uffd || ::ioctl(uffd.get(), UFFDIO_API, &api) != 0) && errno == EPERM)
      GTEST_SKIP() << "hearing of forks needs CAP_SYS_PTRACE";
    ASSERT_TRUE(register_mapping(uffd.get(), at_, kPages * kPageSize));
    int pair[2];
    ASSERT_EQ(0, ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
    reader_.reset(pair[0]);
    auto made = Mapping::create(std::move(uffd),
                                {MappingId{7}, ContainerId{1},
                                 reinterpret_cast<std::uintptr_t>(at_), PageIndex{0}, kPages, true},
                                UniqueFd(pair[1]));
    ASSERT_TRUE(made);
    mapping_ = *made;
  }
  void TearDown() override {
    mapping_.reset();
    if (at_ != nullptr) ::munmap(at_, kPages * kPageSize);
  }

  // A child that does what forked_ says; fork(2) returns when its event has been read.
  void begin_fork() {
    forking_ = std::async(std::launch::async, [this] {
      const pid_t pid = ::fork();
      if (pid == 0) {
        std::signal(SIGBUS, SIG_DFL);
        ::_exit(forked_());
      }
      return pid;
    });
    pollfd event{mapping_->uffd(), POLLIN, 0};
    EXPECT_EQ(1, ::poll(&event, 1, kWaitMs));
  }
  // Its number; -1 if it could not be told of.
  pid_t end_fork() {
    if (forking_.wait_for(std::chrono::milliseconds(kWaitMs)) == std::future_status::ready)
      return forking_.get();
    ADD_FAILURE() << "fork(2) does not return";
    mapping_.reset();  // it does if nobody has the userfaultfd
    const pid_t child = forking_.get();
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    return -1;
  }
  pid_t fork_one() {
    begin_fork();
    std::vector<Fault> faults;
    EXPECT_TRUE(mapping_->drain(faults));
    return end_fork();
  }
  // Looks after the memory until the child has ended, by itself or because it did not in time.
  static int end_of(pid_t child, LostMemory& lost) {
    const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, child, 0)));
    pollfd ended{process.get(), POLLIN, 0};
    for (int i = 0; i < kWaitMs / 20 && ::poll(&ended, 1, 20) == 0; ++i) lost.step();
    ::kill(child, SIGKILL);
    int status = 0;
    EXPECT_EQ(child, ::waitpid(child, &status, 0));
    return status;
  }
  bool hear(MappingNews& news, UniqueFd& fd) {
    return migration::hear_word(reader_.get(), news, fd, MSG_DONTWAIT) == migration::Heard::kWord;
  }

  std::shared_ptr<const FramePool> pool_;
  UniqueFd memory_, reader_;
  char* at_ = nullptr;
  std::shared_ptr<Mapping> mapping_;
  std::future<pid_t> forking_;
  std::function<int()> forked_ = [this] {
    return int{*const_cast<volatile char*>(at_ + kPageSize)};
  };
};

// While it lives this process gets no descriptor.
class NoDescriptors {
 public:
  NoDescriptors() {
    const UniqueFd next(::dup(0));
    ::getrlimit(RLIMIT_NOFILE, &before_);
    rlimit none = before_;
    none.rlim_cur = static_cast<rlim_t>(next.get());
    ::setrlimit(RLIMIT_NOFILE, &none);
  }
  ~NoDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }
  NoDescriptors(const NoDescriptors&) = delete;
  NoDescriptors& operator=(const NoDescriptors&) = delete;

 private:
  rlimit before_{};
};

TEST_F(MappingNewsTest, ForkIsToldWithTheUserfaultfdOfTheChild) {
  const pid_t child = fork_one();
  ASSERT_GT(child, 0);
  EXPECT_FALSE(mapping_->has_unsent_news());
  MappingNews news;
  UniqueFd uffd;
  ASSERT_TRUE(hear(news, uffd));
  EXPECT_EQ(news.mapping, 7u);
  EXPECT_EQ(news.kind, MappingNews::kForked);
  // The child stands still until somebody answers it by that.
  pollfd fault{uffd.get(), POLLIN, 0};
  EXPECT_EQ(1, ::poll(&fault, 1, kWaitMs));
  ::kill(child, SIGKILL);
  EXPECT_EQ(child, ::waitpid(child, nullptr, 0));
}

TEST_F(MappingNewsTest, NewsForWhichThereIsNoRoomAreSentLater) {
  MappingNews filler;
  int fillers = 0;
  while (::send(mapping_->news(), &filler, sizeof filler, MSG_DONTWAIT) > 0) ++fillers;
  const pid_t child = fork_one();
  ASSERT_GT(child, 0);
  ASSERT_TRUE(mapping_->has_unsent_news());
  pollfd room{mapping_->news(), POLLOUT, 0};
  EXPECT_EQ(0, ::poll(&room, 1, 0));
  MappingNews news;
  UniqueFd uffd;
  for (; fillers > 0; --fillers) ASSERT_TRUE(hear(news, uffd));
  ASSERT_EQ(1, ::poll(&room, 1, 0));
  mapping_->send_news();
  EXPECT_FALSE(mapping_->has_unsent_news());
  ASSERT_TRUE(hear(news, uffd));
  EXPECT_EQ(news.mapping, 7u);
  EXPECT_TRUE(uffd);
  ::kill(child, SIGKILL);
  EXPECT_EQ(child, ::waitpid(child, nullptr, 0));
}

TEST_F(MappingNewsTest, ForkWaitsUntilThereIsADescriptorForTheChild) {
  begin_fork();
  // No memory must be wanted meanwhile: that is locked as long as this process is in fork(2).
  bool drained = false, lacks = false, dead = true, again = false;
  std::vector<Fault> faults;
  {
    const NoDescriptors none;
    drained = mapping_->drain(faults).ok();
    lacks = mapping_->lacks_descriptor();
    dead = mapping_->dead();
  }
  again = mapping_->drain(faults).ok();
  EXPECT_TRUE(drained && lacks && !dead && again) << drained << lacks << dead << again;
  EXPECT_FALSE(mapping_->lacks_descriptor());
  const pid_t child = end_fork();
  ASSERT_GT(child, 0);
  MappingNews news;
  UniqueFd uffd;
  ASSERT_TRUE(hear(news, uffd));
  EXPECT_TRUE(uffd);
  ::kill(child, SIGKILL);
  EXPECT_EQ(child, ::waitpid(child, nullptr, 0));
}

TEST_F(MappingNewsTest, NewsWithoutRoomForTheirDescriptorStayWhereTheyAre) {
  const pid_t child = fork_one();
  ASSERT_GT(child, 0);
  MappingNews news;
  UniqueFd uffd;
  const int flags = MSG_DONTWAIT | MSG_PEEK;
  {
    const NoDescriptors none;
    EXPECT_EQ(migration::Heard::kNoRoom, migration::hear_word(reader_.get(), news, uffd, flags));
    EXPECT_FALSE(uffd);
  }
  EXPECT_EQ(migration::Heard::kWord, migration::hear_word(reader_.get(), news, uffd, flags));
  EXPECT_TRUE(uffd);
  migration::drop_word(reader_.get());
  UniqueFd none;
  EXPECT_EQ(migration::Heard::kNothing, migration::hear_word(reader_.get(), news, none, flags));
  ::kill(child, SIGKILL);
  EXPECT_EQ(child, ::waitpid(child, nullptr, 0));
}

TEST_F(MappingNewsTest, ChildOfWhichNobodyWillHearMeetsSigbusAndNoZeros) {
  reader_.reset();
  const pid_t child = fork_one();
  ASSERT_GT(child, 0);
  EXPECT_FALSE(mapping_->has_unsent_news());
  LostMemory lost;
  for (UniqueFd& uffd : mapping_->take_refused()) lost.hold(std::move(uffd), *mapping_);
  EXPECT_FALSE(lost.empty());
  lost.step();
  int status = 0;
  ASSERT_EQ(child, ::waitpid(child, &status, 0));
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS) << status;
  lost.step();
  EXPECT_TRUE(lost.empty()) << "it has ended";
}

// It has the page when nobody is left, which is taken from all later: what it reads then is no
// zeros.
TEST_F(MappingNewsTest, PageThatIsTakenFromALostChildRaisesSigbusThen) {
  ASSERT_EQ(1, ::pwrite(memory_.get(), "x", 1, kPageSize));
  ASSERT_EQ(UffdOutcome::kDone,
            uffd_continue(mapping_->uffd(), mapping_->address_of(PageIndex{1}), 1, false).outcome);
  reader_.reset();
  int ends[2];
  ASSERT_EQ(0, ::pipe(ends));
  forked_ = [this, ends] {
    volatile char* const page = at_ + kPageSize;
    if (*page != 'x' || ::write(ends[1], "r", 1) != 1) return 1;
    while (*page == 'x') continue;
    return 2;
  };
  const pid_t child = fork_one();
  ASSERT_GT(child, 0);
  char ready = 0;
  ASSERT_EQ(1, ::read(ends[0], &ready, 1));
  for (const int end : ends) ::close(end);
  LostMemory lost;
  for (UniqueFd& uffd : mapping_->take_refused()) lost.hold(std::move(uffd), *mapping_);
  lost.step();
  ASSERT_EQ(0, ::fallocate(memory_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, kPageSize,
                           kPageSize));
  const int status = end_of(child, lost);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS) << status;
}

// It waits to write to a page that it may read: that is to be taken from all, and the wait is over.
TEST_F(MappingNewsTest, WriterOfALostChildMeetsSigbusWhenItsPageIsTaken) {
  ASSERT_EQ(1, ::pwrite(memory_.get(), "x", 1, kPageSize));
  ASSERT_EQ(UffdOutcome::kDone,
            uffd_continue(mapping_->uffd(), mapping_->address_of(PageIndex{1}), 1, true).outcome);
  reader_.reset();
  forked_ = [this] {
    volatile char* const page = at_ + kPageSize;
    if (*page != 'x') return 1;
    *page = 'y';
    return 2;
  };
  const pid_t child = fork_one();
  ASSERT_GT(child, 0);
  std::vector<UniqueFd> uffds = mapping_->take_refused();
  ASSERT_EQ(1U, uffds.size());
  const UniqueFd watched(::dup(uffds[0].get()));
  LostMemory lost;
  lost.hold(std::move(uffds[0]), *mapping_);
  // The first step wakes all once, whatever they wait for.
  for (int i = 0; i < 2; ++i) {
    pollfd writes{watched.get(), POLLIN, 0};
    ASSERT_EQ(1, ::poll(&writes, 1, kWaitMs));
    const PageId wanted{mapping_->config().container, PageIndex{1}};
    const std::vector<PageId> unwanted = lost.step();
    if (i == 0) {
      EXPECT_EQ(unwanted, std::vector<PageId>{wanted});
    }
  }
  ASSERT_EQ(0, ::fallocate(memory_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, kPageSize,
                           kPageSize));
  const int status = end_of(child, lost);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS) << status;
}

// Its own child has the memory where it moved it.
TEST_F(MappingNewsTest, ChildOfALostChildThatMovedItsMemoryMeetsSigbusAndNoZeros) {
  const std::size_t bytes = kPages * kPageSize;
  void* const room = ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  reader_.reset();
  forked_ = [this, bytes, room] {
    const void* const moved = ::mremap(at_, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, room);
    const pid_t own = ::fork();
    if (own == 0) ::_exit(*(static_cast<const volatile char*>(moved) + kPageSize));
    int status = 0;
    if (::waitpid(own, &status, 0) != own) return 1;
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS ? 0 : 2;
  };
  const pid_t child = fork_one();
  ASSERT_GT(child, 0);
  LostMemory lost;
  for (UniqueFd& uffd : mapping_->take_refused()) {
    pollfd moves{uffd.get(), POLLIN, 0};
    ASSERT_EQ(1, ::poll(&moves, 1, kWaitMs));
    lost.hold(std::move(uffd), *mapping_);
  }
  const int status = end_of(child, lost);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

// What it touches where it moved is not refused by a mapping that was told of the place before.
TEST_F(MappingNewsTest, MemoryThatMovedOnIsNotRefusedByAMappingThatNeverHeardOfIt) {
  const std::size_t bytes = kPages * kPageSize;
  const auto move = [&](const std::shared_ptr<Mapping>& mapping) {
    void* const room = ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    auto moving = std::async(std::launch::async, [&] {
      return ::mremap(at_, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, room);
    });
    pollfd event{mapping->uffd(), POLLIN, 0};
    EXPECT_EQ(1, ::poll(&event, 1, kWaitMs));
    std::vector<Fault> faults;
    EXPECT_TRUE(mapping->drain(faults));
    at_ = static_cast<char*>(moving.get());
  };
  // Its place by the first of two moves, of which the second is heard by the mapping before it.
  move(mapping_);
  Mapping::Config config = mapping_->config();
  config.address = reinterpret_cast<std::uintptr_t>(at_);
  move(mapping_);
  auto next =
      Mapping::create(UniqueFd(::dup(mapping_->uffd())), config, UniqueFd(::dup(reader_.get())));
  ASSERT_TRUE(next);
  auto touch = std::async(std::launch::async, [&] { return *const_cast<volatile char*>(at_); });
  pollfd event{(*next)->uffd(), POLLIN, 0};
  ASSERT_EQ(1, ::poll(&event, 1, kWaitMs));
  std::vector<Fault> faults;
  EXPECT_TRUE((*next)->drain(faults));
  EXPECT_TRUE(faults.empty());
  // The mapping that is told of the second place answers it.
  uffd_wake((*next)->uffd(), reinterpret_cast<std::uintptr_t>(at_), kPages);
  ASSERT_EQ(1, ::poll(&event, 1, kWaitMs)) << "it does not ask again: it was answered";
  std::vector<std::byte> page(kPageSize, std::byte{'x'});
  EXPECT_EQ(UffdOutcome::kDone,
            uffd_copy((*next)->uffd(), reinterpret_cast<std::uintptr_t>(at_), 1, page.data(), false)
                .outcome);
  EXPECT_EQ('x', touch.get());
}

// The child has the right from its parent, and its mapping is not among those of the linker.
TEST_F(MappingNewsTest, DowngradeTakesTheRightToWriteFromAChildThatNobodyKnows) {
  auto linker = MapLinker::create();
  ASSERT_TRUE(linker);
  linker->add_container(ContainerId{1}, pool_);
  ASSERT_TRUE(linker->add_mapping(mapping_));
  const PageSet page = PageSet::of({ContainerId{1}, PageIndex{1}});
  char* const at = at_ + kPageSize;
  auto write = std::async(std::launch::async, [at] { *at = 'p'; });
  pollfd fault{mapping_->uffd(), POLLIN, 0};
  ASSERT_EQ(1, ::poll(&fault, 1, kWaitMs));
  std::vector<Fault> faults;
  ASSERT_TRUE(mapping_->drain(faults));
  ASSERT_EQ(1u, faults.size());
  linker->note(faults[0], 1);
  ASSERT_TRUE(linker->install_zero(page, Access::kWrite));
  write.get();
  int up[2], down[2];
  ASSERT_EQ(0, ::pipe(up));
  ASSERT_EQ(0, ::pipe(down));
  forked_ = [at, up, down] {
    *at = 'c';
    char go = 0;
    if (::write(up[1], "r", 1) != 1 || ::read(down[0], &go, 1) != 1) return 1;
    *at = 'w';
    return 0;
  };
  const pid_t child = fork_one();
  ASSERT_GT(child, 0);
  char ready = 0;
  ASSERT_EQ(1, ::read(up[0], &ready, 1));
  ASSERT_TRUE(linker->downgrade(page));
  ASSERT_EQ(1, ::write(down[1], "g", 1));
  MappingNews news;
  UniqueFd uffd;
  ASSERT_TRUE(hear(news, uffd));
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, child, 0)));
  pollfd waits[] = {{uffd.get(), POLLIN, 0}, {process.get(), POLLIN, 0}};
  ASSERT_GE(::poll(waits, 2, kWaitMs), 1);
  EXPECT_EQ(0, waits[1].revents) << "it has written, and ended";
  char byte = 0;
  EXPECT_EQ(1, ::pread(memory_.get(), &byte, 1, kPageSize));
  EXPECT_EQ('c', byte);
  ::kill(child, SIGKILL);
  EXPECT_EQ(child, ::waitpid(child, nullptr, 0));
  for (const int end : {up[0], up[1], down[0], down[1]}) ::close(end);
}

}  // namespace
}  // namespace gob::test
