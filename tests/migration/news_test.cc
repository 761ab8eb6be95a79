// gobd and whoever made a mapping in a program: faults that come before all its shards know of the
// mapping, and news for which the socket has no room.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "libgob/linker/mapping.h"
#include "libgob/linker/uffd_abi.h"
#include "libgob/linker/uffd_client.h"
#include "libgob/migration/hear_word.h"
#include "libgob/runtime/control_client.h"
#include "tests/system/nodes.h"

namespace gob::migration {
namespace {

constexpr std::uint64_t kStripes = 8;
constexpr std::uint64_t kPages = kStripes * kStripePages;
constexpr int kWaitMs = 30'000;
constexpr std::chrono::seconds kAnswer{20};

DaemonConfig settings() {
  DaemonConfig config;
  config.cluster = "news";
  config.budget_bytes = std::uint64_t{64} << 20;
  config.shards = 4;
  return config;
}

// This process is a program with a mapping with news, and who made it there.
class Mapped {
 public:
  explicit Mapped(const std::string& socket) {
    auto gobd = ControlClient::connect(socket, "news_test", kAnswer);
    if (!gobd) return;
    gobd_ = std::move(*gobd);
    map();
  }
  // By the same connection.
  explicit Mapped(const Mapped& other) : gobd_(other.gobd_) { map(); }
  Mapped& operator=(const Mapped&) = delete;
  // gobd serves it from now on.
  Status ready() {
    control::Request request;
    request.mutable_mapping_ready()->set_mapping_id(id);
    request.mutable_mapping_ready()->set_address(reinterpret_cast<std::uintptr_t>(memory));
    const int fds[] = {uffd_.get(), told.get()};
    const auto answer = gobd_->call(request, fds, kAnswer);
    return answer ? Status() : Status(answer.error());
  }
  // Nobody looks after it any more.
  void lose() { gobd_.reset(); }
  Result<ControlClient::Answer> unmap() {
    control::Request request;
    request.mutable_unmap_container()->set_mapping_id(id);
    return gobd_->call(request, {}, kAnswer);
  }
  // Threads that wait for a page.
  [[nodiscard]] unsigned waiting() const {
    const std::string path = "/proc/self/fdinfo/" + std::to_string(uffd_.get());
    char text[1024] = {};
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    unsigned pending = 0;
    if (::read(file.get(), text, sizeof text - 1) <= 0) return 0;
    if (const char* line = std::strstr(text, "pending:"); line != nullptr)
      std::sscanf(line, "pending: %u", &pending);
    return pending;
  }

  bool ok = false;
  std::uint64_t id = 0;
  char* memory = nullptr;
  UniqueFd told, heard;

 private:
  void map() {
    control::Request open;
    open.mutable_open_container()->set_name("c");
    open.mutable_open_container()->set_read(true);
    open.mutable_open_container()->set_write(true);
    const auto opened = gobd_->call(open, {}, kAnswer);
    if (!opened) return;
    control::Request map;
    map.mutable_map_container()->set_container_id(opened->reply.container().container().id());
    map.mutable_map_container()->set_pages(kPages);
    map.mutable_map_container()->set_writable(true);
    const auto answer = gobd_->call(map, {}, kAnswer);
    if (!answer) return;
    id = answer->reply.map_container().mapping_id();
    memory = static_cast<char*>(::mmap(nullptr, kPages * kPageSize, PROT_READ | PROT_WRITE,
                                       MAP_SHARED, answer->fds.at(0).get(), 0));
    uffd_.reset(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
    uffdio_api api{};
    api.api = UFFD_API;
    api.features = kUffdNewsFeatures;
    int pair[2];
    ok = memory != MAP_FAILED && ::ioctl(uffd_.get(), UFFDIO_API, &api) == 0 &&
         register_mapping(uffd_.get(), memory, kPages * kPageSize).ok() &&
         ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0;
    if (!ok) return;
    told.reset(pair[0]);
    heard.reset(pair[1]);
  }

  std::shared_ptr<ControlClient> gobd_;
  UniqueFd uffd_;
};

class News : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "hearing of forks needs root";
    ASSERT_TRUE(nodes_.run(1, [](gobelins::Connection& gob) {
      gob.create("c", kPages * kPageSize);
      const auto mapped = gob.open("c").map();
      for (std::uint64_t stripe = 0; stripe < kStripes; ++stripe)
        static_cast<char*>(mapped.data())[stripe * kStripePages * kPageSize] = 'x';
      return true;
    }));
  }
  Nodes nodes_{2, settings()};
};

// Each thread's page belongs to another stripe, so all four shards are asked.
TEST_F(News, FaultsThatCameBeforeTheMappingIsKnownAreAnswered) {
  for (int round = 0; round < 20; ++round) {
    const pid_t program = nodes_.spawn(0, [this](gobelins::Connection&) {
      Mapped mapped(nodes_.socket_of(0));
      if (!mapped.ok) return false;
      char got[kStripes] = {};
      std::vector<std::thread> threads;
      for (std::uint64_t i = 0; i < kStripes; ++i)
        threads.emplace_back([&, i] {
          got[i] = const_cast<volatile char*>(mapped.memory)[i * kStripePages * kPageSize];
        });
      while (mapped.waiting() < kStripes) std::this_thread::yield();
      const bool served = mapped.ready().ok();
      for (std::thread& each : threads) each.join();
      return served && std::string_view(got, kStripes) == std::string(kStripes, 'x');
    });
    ASSERT_EQ(0, Nodes::wait_for(program, kWaitMs)) << "round " << round;
  }
}

// Others may have taken the descriptors that were free when gobd handed the mapping out.
TEST_F(News, AMappingForWhichGobdHasNoRoomMayBecomeReadyLaterAndOthersStay) {
  const pid_t gobd = nodes_.pid_of(0);
  const pid_t program = nodes_.spawn(0, [this, gobd](gobelins::Connection&) {
    Mapped first(nodes_.socket_of(0));
    if (!first.ok || !first.ready()) return false;
    Mapped second(first);
    rlimit before{}, none{};
    ::prlimit(gobd, RLIMIT_NOFILE, nullptr, &before);
    none = before;
    none.rlim_cur = 0;
    // A new one has the lowest number that is free, which must be below the limit.
    const std::string numbers = "/proc/" + std::to_string(gobd) + "/fd/";
    while (::access((numbers + std::to_string(none.rlim_cur)).c_str(), F_OK) == 0) ++none.rlim_cur;
    ::prlimit(gobd, RLIMIT_NOFILE, &none, nullptr);
    const Status refused = second.ready();
    ::prlimit(gobd, RLIMIT_NOFILE, &before, nullptr);
    if (refused || refused.error().errno_value != EMFILE) return false;
    if (const_cast<volatile char*>(first.memory)[0] != 'x') return false;
    return second.ready().ok() && const_cast<volatile char*>(second.memory)[0] == 'x';
  });
  EXPECT_EQ(0, Nodes::wait_for(program, kWaitMs));
}

TEST_F(News, NewsThatHadNoRoomFollowTheAnswerThatSaysSo) {
  const pid_t program = nodes_.spawn(0, [this](gobelins::Connection&) {
    Mapped mapped(nodes_.socket_of(0));
    if (!mapped.ok || !mapped.ready()) return false;
    MappingNews word;
    int fillers = 0;
    while (::send(mapped.told.get(), &word, sizeof word, MSG_DONTWAIT) > 0) ++fillers;
    const pid_t child = ::fork();
    if (child == 0) ::_exit(*const_cast<volatile char*>(mapped.memory + kPageSize));
    const auto answer = mapped.unmap();
    bool right = answer && answer->reply.unmap().news_follow();
    UniqueFd uffd;
    for (; fillers > 0; --fillers)
      right = hear_word(mapped.heard.get(), word, uffd) == Heard::kWord && right;
    pollfd news{mapped.heard.get(), POLLIN, 0};
    right = ::poll(&news, 1, kWaitMs) == 1 && right;
    right = hear_word(mapped.heard.get(), word, uffd, MSG_DONTWAIT) == Heard::kWord && right;
    right = right && word.mapping == mapped.id && word.kind == MappingNews::kForked && uffd;
    ::kill(child, SIGKILL);
    return right;
  });
  EXPECT_EQ(0, Nodes::wait_for(program, kWaitMs));
}

TEST_F(News, WithRoomNothingFollows) {
  const pid_t program = nodes_.spawn(0, [this](gobelins::Connection&) {
    Mapped mapped(nodes_.socket_of(0));
    if (!mapped.ok || !mapped.ready()) return false;
    const pid_t child = ::fork();
    if (child == 0) ::_exit(*const_cast<volatile char*>(mapped.memory + kPageSize));
    const auto answer = mapped.unmap();
    MappingNews word;
    UniqueFd uffd;
    const bool right = answer && !answer->reply.unmap().news_follow() &&
                       hear_word(mapped.heard.get(), word, uffd, MSG_DONTWAIT) == Heard::kWord;
    ::kill(child, SIGKILL);
    return right && uffd;
  });
  EXPECT_EQ(0, Nodes::wait_for(program, kWaitMs));
}

// Nobody else wants the page, which this node has for reading. In the kernel, where nothing stops
// it.
TEST_F(News, AWriteToAPageThatMayBeReadIsRefusedWhenTheKeeperHasDied) {
  const pid_t program = nodes_.spawn(0, [this](gobelins::Connection&) {
    Mapped mapped(nodes_.socket_of(0));
    int ends[2];
    if (!mapped.ok || !mapped.ready() || ::pipe2(ends, O_CLOEXEC) != 0) return false;
    if (const_cast<volatile char*>(mapped.memory)[0] != 'x' || ::write(ends[1], "w", 1) != 1)
      return false;
    mapped.lose();
    return ::read(ends[0], mapped.memory, 1) < 0 && errno == EFAULT;
  });
  EXPECT_EQ(0, Nodes::wait_for(program, kWaitMs));
}

}  // namespace
}  // namespace gob::migration
