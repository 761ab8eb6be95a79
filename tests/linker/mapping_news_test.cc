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
#include <future>
#include <vector>

#include "libgob/linker/mapping.h"
#include "libgob/linker/uffd_abi.h"
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
    memory_.reset(::memfd_create("gob-test", MFD_CLOEXEC));
    ASSERT_EQ(0, ::ftruncate(memory_.get(), kPages * kPageSize));
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

  // A child that reads a word of page 1; fork(2) returns when its event has been read.
  void begin_fork() {
    forking_ = std::async(std::launch::async, [this] {
      const pid_t pid = ::fork();
      if (pid == 0) {
        std::signal(SIGBUS, SIG_DFL);
        ::_exit(*const_cast<volatile char*>(at_ + kPageSize));
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
  bool hear(MappingNews& news, UniqueFd& fd) {
    return migration::hear_word(reader_.get(), news, fd, MSG_DONTWAIT) == migration::Heard::kWord;
  }

  UniqueFd memory_, reader_;
  char* at_ = nullptr;
  std::shared_ptr<Mapping> mapping_;
  std::future<pid_t> forking_;
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
  int status = 0;
  ASSERT_EQ(child, ::waitpid(child, &status, 0));
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS) << status;
}

}  // namespace
}  // namespace gob::test
