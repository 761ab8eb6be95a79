// The containers of a move, with real nodes: a source goes on when its target is killed while it
// holds a lock that both use; a target removes containers that are used up, and only these.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <functional>
#include <future>
#include <optional>
#include <thread>
#include <vector>

#include "libgob/migration/lazy_server.h"
#include "libgob/migration/page_store.h"
#include "tests/system/nodes.h"

namespace gob::migration {
namespace {

constexpr int kPatienceMs = 60'000;
// Where the memory of the one that moves is.
constexpr std::uint64_t kSource = std::uint64_t{1} << 36;

DaemonConfig settings(std::uint64_t pages) {
  DaemonConfig config;
  config.cluster = "fill";
  config.budget_bytes = 2 * pages * kPageSize;
  return config;
}

std::uint64_t* word_of(void* memory, std::uint64_t page) {
  return reinterpret_cast<std::uint64_t*>(static_cast<std::byte*>(memory) + page * kPageSize);
}

// A process that stands still, whose pages at kSource begin with their numbers, from 1. `lost`:
// this one cannot be read. -1: none could be made.
pid_t stand_still(std::uint64_t pages, std::optional<std::uint64_t> lost) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    void* const memory =
        ::mmap(reinterpret_cast<void*>(kSource), pages * kPageSize, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (memory == MAP_FAILED) ::_exit(1);
    for (std::uint64_t page = 0; page < pages; ++page) *word_of(memory, page) = page + 1;
    if (lost)  // behind the end of a file
      ::mmap(word_of(memory, *lost), kPageSize, PROT_READ, MAP_SHARED | MAP_FIXED,
             ::memfd_create("empty", MFD_CLOEXEC), 0);
    ::raise(SIGSTOP);
    ::_exit(0);
  }
  int status = 0;
  if (pid < 0 || ::waitpid(pid, &status, WUNTRACED) != pid || !WIFSTOPPED(status)) return -1;
  return pid;
}

// Fills containers with the memory of such a process.
bool hand_over(const gobelins::Connection& gob, const std::string& socket, std::uint64_t pages,
               const std::function<void()>& before, const std::function<void()>& after,
               std::optional<std::uint64_t> lost = {}) {
  gobelins::Connection mine = gob;
  mine.mutex("s.source").lock();  // as long as this program lives
  const pid_t process = stand_still(pages, lost);
  const auto store = SourceStore::create(gob, socket, "s", pages, 0);
  if (process < 0 || !store) return false;
  LazyTask task;
  task.pid = 1;
  task.runs = {{kSource, pages}};
  Memory all;
  if (!(*store)->assign({task}, {process}, all)) return false;
  Status filled;
  std::thread filler([&] { filled = (*store)->fill(); });
  const bool early = (*store)->await_early();
  before();
  (*store)->set_pace(SourceStore::Pace::kAll);
  filler.join();
  after();
  ::kill(process, SIGKILL);
  ::waitpid(process, nullptr, 0);
  return early && filled.ok();
}

TEST(Fill, GoesOnWhenTheTargetDiesWithTheLock) {
  constexpr std::uint64_t kPages = 4 * kFillPages + kEarlyPages;
  Nodes nodes(2, settings(kPages));
  int held[2];
  int died[2];
  ASSERT_EQ(::pipe(held), 0);
  ASSERT_EQ(::pipe(died), 0);
  const pid_t source = nodes.spawn(0, [&](gobelins::Connection& gob) {
    const auto await_death = [&] {
      char c = 0;
      EXPECT_EQ(::read(died[0], &c, 1), 1);
    };
    return hand_over(gob, nodes.socket_of(0), kPages, await_death, [] {});
  });
  const pid_t target = nodes.spawn(1, [&](gobelins::Connection& gob) {
    gob.mutex("s.fill").lock();
    EXPECT_EQ(::write(held[1], "x", 1), 1);
    ::pause();
    return true;
  });
  char c = 0;
  ASSERT_EQ(::read(held[0], &c, 1), 1);
  ::kill(target, SIGKILL);
  EXPECT_EQ(Nodes::wait_for(target, 20'000), 128 + SIGKILL);
  ASSERT_EQ(::write(died[1], "x", 1), 1);
  EXPECT_EQ(Nodes::wait_for(source, kPatienceMs), 0);
}

bool exists(gobelins::Connection& gob, std::size_t index) {
  try {
    static_cast<void>(gob.open(store_name("s", index)));
    return true;
  } catch (const std::system_error&) {
    return false;
  }
}

TargetStores stores_of(const std::string& socket) {
  auto stores = TargetStores::open(socket);
  EXPECT_TRUE(stores.ok());
  return std::move(*stores);
}

// Memory of this program that comes out of the containers, as a migrant's.
class Arriving {
 public:
  // `live`: it knows where the source's process has them.
  Arriving(gobelins::Connection& gob, const std::string& socket, std::uint64_t pages,
           bool live = true)
      : pages_(pages), stores_(stores_of(socket)) {
    Memory::Store place;
    place.set_session("s");
    place.set_pages(pages);
    if (live) {
      place.add_pieces()->set_page(kSource / kPageSize);
      place.mutable_pieces(0)->set_pages(pages);
    }
    // The state is made last: then all of them are there.
    for (Status added = stores_.add(gob, place); !added; added = stores_.add(gob, place))
      ::usleep(1000);
    memory_ = ::mmap(nullptr, pages * kPageSize, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    UniqueFd uffd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
    uffdio_api api{UFFD_API, UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP, 0};
    EXPECT_EQ(::ioctl(uffd.get(), UFFDIO_API, &api), 0);
    uffdio_register area{{start(), pages * kPageSize}, UFFDIO_REGISTER_MODE_MISSING, 0};
    EXPECT_EQ(::ioctl(uffd.get(), UFFDIO_REGISTER, &area), 0);
    LazyRanges all;
    all.add(start(), 0, pages);
    auto server = LazyServer::create(
        stores_, [](int) {}, 0);
    server_ = std::move(*server);
    server_->add(std::move(uffd), all, 1, {});
  }
  LazyServer& server() { return *server_; }
  [[nodiscard]] void* memory() const { return memory_; }
  // Touches [from, to): are these the source's bytes?
  [[nodiscard]] bool right(std::uint64_t from, std::uint64_t to) const {
    for (std::uint64_t page = from; page < to; ++page)
      if (*word_of(memory_, page) != page + 1) return false;
    return true;
  }
  // Until the source has handed over all.
  bool await_complete() {
    for (int i = 0; i < kPatienceMs / 10; ++i) {
      if (stores_.complete()) return true;
      ::usleep(10'000);
    }
    return false;
  }
  // Until all is here, or some of it never will be.
  bool await_all() {
    pollfd news{server_->fd(), POLLIN, 0};
    while (!server_->finished() && !server_->failure()) {
      if (::poll(&news, 1, kPatienceMs) <= 0) return false;
      server_->clear_fd();
    }
    return !server_->failure();
  }

 private:
  [[nodiscard]] std::uint64_t start() const { return reinterpret_cast<std::uint64_t>(memory_); }

  std::uint64_t pages_;
  void* memory_ = nullptr;
  TargetStores stores_;
  std::unique_ptr<LazyServer> server_;
};

using Target = std::function<bool(gobelins::Connection&, const std::string& socket)>;

// `target`, with a source that is there until it has ended; `asked`: and that gives only what it is
// asked for until then; `lost`: and that cannot give this page.
void meet(std::uint64_t pages, const Target& target, bool asked = false,
          std::optional<std::uint64_t> lost = {}) {
  if (::geteuid() != 0) GTEST_SKIP() << "faults of the kernel need root";
  Nodes nodes(2, settings(pages));
  int over[2];
  ASSERT_EQ(::pipe(over), 0);
  const pid_t source = nodes.spawn(0, [&](gobelins::Connection& gob) {
    const auto await_end = [&] {
      char c = 0;
      EXPECT_EQ(::read(over[0], &c, 1), 1);
    };
    const auto nothing = [] {};
    const bool all = asked ? hand_over(gob, nodes.socket_of(0), pages, await_end, nothing, lost)
                           : hand_over(gob, nodes.socket_of(0), pages, nothing, await_end, lost);
    return all == !lost;
  });
  EXPECT_TRUE(nodes.run(
      1, [&](gobelins::Connection& gob) { return target(gob, nodes.socket_of(1)); }));
  ASSERT_EQ(::write(over[1], "x", 1), 1);
  EXPECT_EQ(Nodes::wait_for(source, kPatienceMs), 0);
}

TEST(Fill, GivesWhatFaultsWaitForBeforeAllElse) {
  constexpr std::uint64_t kPages = 100 * kFillPages + kEarlyPages;
  for (const bool live : {true, false})
    meet(
        kPages,
        [live](gobelins::Connection& gob, const std::string& socket) {
          Arriving arriving(gob, socket, kPages, live);
          arriving.server().runs(/*stream=*/false);
          // Here and there, one behind the other, and again in a run that is there.
          EXPECT_TRUE(arriving.right(kPages - 1, kPages));
          EXPECT_TRUE(arriving.right(50 * kFillPages + 7, 52 * kFillPages));
          EXPECT_TRUE(arriving.right(3, 4));
          EXPECT_TRUE(arriving.right(50 * kFillPages, 50 * kFillPages + 7));
          EXPECT_GT(arriving.server().pages_out(), kPages / 2);
          return !::testing::Test::HasFailure();
        },
        /*asked=*/true);
}

// Whoever finds out, and whatever the source does: both ends hear of it.
TEST(Fill, EndsWhenMemoryOfTheSourceIsLost) {
  constexpr std::uint64_t kPages = 20 * kFillPages + kEarlyPages;
  constexpr std::uint64_t kLost = 10 * kFillPages + 5;
  for (const bool asked : {true, false})
    meet(
        kPages,
        [](gobelins::Connection& gob, const std::string& socket) {
          Arriving arriving(gob, socket, kPages);
          arriving.server().runs(/*stream=*/false);
          const volatile std::uint64_t* const word = word_of(arriving.memory(), kLost);
          std::thread([word] { static_cast<void>(*word); }).detach();
          EXPECT_FALSE(arriving.await_all());
          EXPECT_TRUE(arriving.server().failure().has_value());
          std::_Exit(::testing::Test::HasFailure() ? 1 : 0);  // that thread waits for ever
          return true;
        },
        asked, kLost);
}

// As many faults as there are threads, on pages side by side and far from each other, while the
// stream brings the same ones.
TEST(Fill, AnswersManyThreadsAtOnce) {
  constexpr std::uint64_t kPages = 300 * kFillPages;
  for (const bool stream : {false, true})
    meet(kPages, [stream](gobelins::Connection& gob, const std::string& socket) {
      Arriving arriving(gob, socket, kPages);
      arriving.server().runs(stream);
      std::vector<std::future<bool>> all;
      for (std::uint64_t each = 0; each < 8; ++each)
        all.push_back(std::async(std::launch::async, [&arriving, each] {
          // Two threads go the same way.
          for (std::uint64_t i = 0; i < 600; ++i) {
            const std::uint64_t page = (i * 997 + each / 2 * 4801) % kPages;
            if (!arriving.right(page, page + 1)) return false;
          }
          return true;
        }));
      for (std::future<bool>& each : all) EXPECT_TRUE(each.get());
      return !::testing::Test::HasFailure();
    });
}

TEST(UsedUp, ContainersGoAsTheirPagesHaveCome) {
  constexpr std::uint64_t kPages = 2 * kStorePages + kFillPages;
  meet(kPages, [](gobelins::Connection& gob, const std::string& socket) {
    Arriving arriving(gob, socket, kPages);
    arriving.server().runs(/*stream=*/true);
    EXPECT_TRUE(arriving.await_all());
    EXPECT_FALSE(exists(gob, 0));
    EXPECT_FALSE(exists(gob, 1));
    EXPECT_TRUE(exists(gob, 2));  // too few pages came since: it goes with the end of the move
    EXPECT_TRUE(arriving.right(0, kPages));
    return !::testing::Test::HasFailure();
  });
}

// Those that the program gave up count as come; a migrant that moves on says what is left.
TEST(UsedUp, OneIsLeftOutWhenTheProcessMovesOn) {
  constexpr std::uint64_t kPages = 2 * kStorePages;
  meet(kPages, [](gobelins::Connection& gob, const std::string& socket) {
    Arriving arriving(gob, socket, kPages);
    arriving.server().runs(/*stream=*/false);
    EXPECT_TRUE(arriving.right(kStorePages, kStorePages + kStorePages / 2));
    EXPECT_TRUE(arriving.await_complete());
    EXPECT_TRUE(exists(gob, 1));
    ::madvise(word_of(arriving.memory(), kStorePages + kStorePages / 2),
              kStorePages / 2 * kPageSize, MADV_DONTNEED);
    EXPECT_TRUE(arriving.right(0, kStorePages / 2));
    for (int i = 0; exists(gob, 1) && i < kPatienceMs / 10; ++i) ::usleep(10'000);
    EXPECT_FALSE(exists(gob, 1));
    EXPECT_TRUE(exists(gob, 0));

    LazyServer::Processes self;
    self.Add()->set_pid(::getpid());
    self.Mutable(0)->set_inside(1);
    EXPECT_TRUE(arriving.server().hold(self).ok());
    EXPECT_TRUE(arriving.right(kStorePages / 2, kStorePages));  // whatever comes now may be wanted
    EXPECT_TRUE(exists(gob, 0));
    Memory left;
    EXPECT_TRUE(arriving.server().collect(self, left).ok());
    EXPECT_EQ(left.stores_size(), 1);
    EXPECT_EQ(left.stores(0).used_up_size(), 1);
    EXPECT_EQ(left.stores(0).used_up(0), 1U);
    TargetStores next = stores_of(socket);
    EXPECT_TRUE(next.add(gob, left.stores(0)).ok());
    const auto page = next.bring(7, 1, Asker::kFault, kFaultLane);
    EXPECT_TRUE(page.ok());
    EXPECT_EQ(page ? *reinterpret_cast<const std::uint64_t*>(*page) : 0, 8U);
    EXPECT_FALSE(next.bring(kStorePages, 1, Asker::kStream, kStreamLane).ok());
    return !::testing::Test::HasFailure();
  });
}

}  // namespace
}  // namespace gob::migration
