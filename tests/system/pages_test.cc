// Bytes of memory containers without a mapping (TakePages, PutPages), with real nodes: coherent
// with mappings, refused with a reason, and never a hang or a signal in gobd.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "libgob/migration/page_mover.h"
#include "libgob/runtime/lent_buffer.h"
#include "tests/system/nodes.h"

namespace gob {
namespace {

using migration::PageMover;
using Use = PageMover::Use;

constexpr std::uint64_t kPages = 600;  // of the container: several stripes, the last one cut
constexpr int kPatienceMs = 60'000;

DaemonConfig settings() {
  DaemonConfig config;
  config.cluster = "pages";
  config.budget_bytes = std::uint64_t{64} << 20;
  config.page_timeout_ms = 3000;
  return config;
}

std::uint64_t& word_of(std::byte* bytes, std::uint64_t page) {
  return *reinterpret_cast<std::uint64_t*>(bytes + page * kPageSize);
}

std::unique_ptr<PageMover> mover_of(const Nodes& nodes, unsigned node) {
  auto mover = PageMover::open(nodes.socket_of(node), 2);
  EXPECT_TRUE(mover.ok());
  return std::move(*mover);
}

void create(const Nodes& nodes, const std::string& name = "c") {
  gobelins::Connection(nodes.socket_of(0)).create(name, kPages * kPageSize);
}

TEST(Pages, WhatOneNodePutsAnotherTakes) {
  Nodes nodes(2, settings());
  create(nodes);
  const auto here = mover_of(nodes, 0);
  const auto there = mover_of(nodes, 1);
  const std::uint32_t number = *here->find("c", Use::kMove);
  ASSERT_EQ(*there->find("c", Use::kMove), number);
  constexpr std::uint64_t kFirst = 37;  // begins and ends within a stripe
  for (std::uint64_t i = 0; i < PageMover::kLanePages; ++i) word_of(here->lane(1), i) = i + 1;
  ASSERT_TRUE(here->put(number, kFirst, PageMover::kLanePages, 1).ok());
  // Those in front and behind are untouched: zeros.
  std::memset(there->lane(0), 0xff, PageMover::kLanePages * kPageSize);
  ASSERT_TRUE(there->take(number, kFirst - 1, PageMover::kLanePages, 0, kPages).ok());
  EXPECT_EQ(word_of(there->lane(0), 0), 0U);
  for (std::uint64_t i = 1; i < PageMover::kLanePages; ++i)
    ASSERT_EQ(word_of(there->lane(0), i), i) << i;
  // Back again, the last page of the container with it.
  ASSERT_TRUE(here->take(number, kPages - 1, 1, 0, 1000).ok());
  EXPECT_EQ(word_of(here->lane(0), 0), 0U);
  ASSERT_TRUE(here->take(number, kFirst, 2, 0, 0).ok());
  EXPECT_EQ(word_of(here->lane(0), 1), 2U);
}

// Mappings on both nodes, and pages taken and put on both, change the same words under a lock.
TEST(Pages, TakingAndPuttingIsCoherentWithMappings) {
  constexpr unsigned kRounds = 150;
  Nodes nodes(3, settings());
  create(nodes);
  const auto work = [&](unsigned node, bool maps) {
    return nodes.spawn(node, [&nodes, node, maps](gobelins::Connection& gob) {
      gobelins::Mutex lock = gob.mutex("words");
      gobelins::Mapping mapping;
      std::unique_ptr<PageMover> mover;
      std::uint32_t number = 0;
      if (maps) {
        mapping = gob.open("c").map();
      } else {
        mover = mover_of(nodes, node);
        number = *mover->find("c", Use::kMove);
      }
      for (unsigned i = 0; i < kRounds; ++i) {
        const std::uint64_t first = i % 7 * 60;
        const std::uint64_t pages = 1 + i % 5;
        lock.lock();
        if (maps) {
          for (std::uint64_t page = first; page < first + pages; ++page)
            ++word_of(static_cast<std::byte*>(mapping.data()), page);
        } else {
          if (!mover->take(number, first, pages, 0, i % 100).ok()) return false;
          for (std::uint64_t page = 0; page < pages; ++page) ++word_of(mover->lane(0), page);
          if (!mover->put(number, first, pages, 0).ok()) return false;
        }
        lock.unlock();
      }
      return true;
    });
  };
  std::vector<pid_t> workers;
  for (unsigned node = 0; node < 3; ++node)
    for (const bool maps : {true, false}) workers.push_back(work(node, maps));
  for (const pid_t worker : workers) EXPECT_EQ(Nodes::wait_for(worker, kPatienceMs), 0);
  std::array<std::uint64_t, kPages> expected{};
  for (unsigned i = 0; i < kRounds; ++i)
    for (std::uint64_t page = 0; page < 1 + i % 5; ++page) expected[i % 7 * 60 + page] += 6;
  const auto mover = mover_of(nodes, 1);
  const std::uint32_t number = *mover->find("c", Use::kMove);
  for (std::uint64_t page = 0; page < kPages; ++page) {
    ASSERT_TRUE(mover->take(number, page, 1, 1, 0).ok());
    ASSERT_EQ(word_of(mover->lane(1), 0), expected[page]) << page;
  }
}

// More than the budget of a node: what is put first has gone to the other one.
TEST(Pages, GoToOtherNodesWhenThereIsNoRoom) {
  DaemonConfig config = settings();
  config.budget_bytes = kPages / 2 * kPageSize + (std::uint64_t{1} << 20);
  Nodes nodes(2, config);
  create(nodes);
  const auto mover = mover_of(nodes, 0);
  const std::uint32_t number = *mover->find("c", Use::kMove);
  for (std::uint64_t first = 0; first < kPages; first += 100) {
    for (std::uint64_t i = 0; i < 100; ++i) word_of(mover->lane(0), i) = first + i + 1;
    ASSERT_TRUE(mover->put(number, first, 100, 0).ok());
  }
  for (std::uint64_t page = 0; page < kPages; ++page) {
    ASSERT_TRUE(mover->take(number, page, 1, 1, 0).ok());
    ASSERT_EQ(word_of(mover->lane(1), 0), page + 1);
  }
}

TEST(Pages, OfADeadNodeAreAnError) {
  Nodes nodes(3, settings());
  create(nodes);
  const auto theirs = mover_of(nodes, 2);
  const auto mover = mover_of(nodes, 0);
  const std::uint32_t number = *mover->find("c", Use::kMove);
  ASSERT_EQ(*theirs->find("c", Use::kMove), number);
  word_of(theirs->lane(0), 0) = 7;
  ASSERT_TRUE(theirs->put(number, 5, 1, 0).ok());
  nodes.kill_node(2);
  const Status taken = mover->take(number, 5, 1, 0, 0);
  ASSERT_FALSE(taken.ok());
  EXPECT_EQ(taken.error().code, ErrorCode::kLost) << taken.error().message();
  EXPECT_FALSE(theirs->take(number, 5, 1, 0, 0).ok());  // its gobd is gone: no hang
  EXPECT_TRUE(mover->take(number, 6, 1, 0, 0).ok());
}

// As many pages as the buffer has room for are waited for at once, and no more.
TEST(Pages, OfOneConnectionAFewAreUnderWay) {
  Nodes nodes(2, settings());
  create(nodes);
  const auto theirs = mover_of(nodes, 1);
  auto opened = PageMover::open(nodes.socket_of(0), 1);
  ASSERT_TRUE(opened.ok());
  const std::unique_ptr<PageMover> mover = std::move(*opened);
  const std::uint32_t number = *mover->find("c", Use::kMove);
  ASSERT_EQ(*theirs->find("c", Use::kMove), number);
  ASSERT_TRUE(theirs->put(number, 0, PageMover::kLanePages, 0).ok());
  ASSERT_TRUE(nodes.suspend(1));
  // Whichever comes second finds no room, and is answered at once.
  const auto take = [&](std::uint64_t pages) {
    return std::async(std::launch::async, [&mover, number, pages] {
      const Status taken = mover->take(number, 0, pages, 0, 0);
      return taken ? 0 : taken.error().errno_value;
    });
  };
  std::future<int> all = take(PageMover::kLanePages);
  std::future<int> one = take(1);
  const auto ready = [](const std::future<int>& each) {
    return each.wait_for(std::chrono::milliseconds(1)) == std::future_status::ready;
  };
  for (int i = 0; i < 1000 && !ready(all) && !ready(one); ++i) {
  }
  ASSERT_TRUE(nodes.resume(1));
  EXPECT_EQ(std::minmax({all.get(), one.get()}), std::minmax({0, EBUSY}));
  EXPECT_TRUE(mover->take(number, 0, PageMover::kLanePages, 0, 0).ok());
}

TEST(Pages, OfARemovedContainerAreAnError) {
  Nodes nodes(1, settings());
  create(nodes);
  const auto mover = mover_of(nodes, 0);
  const std::uint32_t number = *mover->find("c", Use::kMove);
  ASSERT_TRUE(mover->put(number, 0, 1, 0).ok());
  gobelins::Connection(nodes.socket_of(0)).remove("c");
  EXPECT_EQ(mover->take(number, 0, 1, 0, 0).error().errno_value, ENOENT);
}

class PagesRefused : public ::testing::Test {
 protected:
  PagesRefused() : nodes_(1, settings()) {
    create(nodes_);
    auto gobd = ControlClient::connect(nodes_.socket_of(0), "test");
    EXPECT_TRUE(gobd.ok());
    gobd_ = std::move(*gobd);
  }
  // The errno of the answer; 0: done.
  int lend(int memory, std::uint64_t bytes) {
    control::Request request;
    request.mutable_lend_buffer()->set_bytes(bytes);
    return errno_of(gobd_->call(std::move(request), std::array{memory}));
  }
  std::uint32_t open(bool write) {
    control::Request request;
    auto& wanted = *request.mutable_open_container();
    wanted.set_name("c");
    wanted.set_read(true);
    wanted.set_write(write);
    return gobd_->call(std::move(request))->reply.container().container().id();
  }
  int take(std::uint32_t container, std::uint64_t first, std::uint64_t pages, std::uint64_t at) {
    control::Request request;
    auto& wanted = *request.mutable_take_pages();
    wanted.set_container_id(container);
    wanted.set_first_page(first);
    wanted.set_pages(pages);
    wanted.set_at(at);
    wanted.set_ahead(~std::uint64_t{0});
    return errno_of(gobd_->call(std::move(request)));
  }
  static int errno_of(const Result<ControlClient::Answer>& answer) {
    return answer ? 0 : answer.error().errno_value;
  }
  static UniqueFd memory(std::uint64_t bytes, int seals, unsigned flags = 0) {
    UniqueFd made(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags));
    if (::ftruncate(made.get(), static_cast<off_t>(bytes)) != 0) return {};
    EXPECT_EQ(::fcntl(made.get(), F_ADD_SEALS, seals), 0);
    return made;
  }

  Nodes nodes_;
  std::unique_ptr<ControlClient> gobd_;
};

TEST_F(PagesRefused, ABufferThatCouldVanish) {
  constexpr std::uint64_t kBytes = 8 * kPageSize;
  EXPECT_EQ(lend(memory(kBytes, F_SEAL_GROW).get(), kBytes), EINVAL);        // may shrink
  EXPECT_EQ(lend(memory(kBytes, F_SEAL_SHRINK).get(), kBytes + kPageSize), EINVAL);
  EXPECT_EQ(lend(memory(kBytes, F_SEAL_SHRINK).get(), kBytes - 1), EINVAL);
  EXPECT_EQ(lend(memory(kBytes, F_SEAL_SHRINK).get(), 0), EINVAL);
  EXPECT_EQ(lend(memory(2 * LentBuffer::kMostBytes, F_SEAL_SHRINK).get(),
                 LentBuffer::kMostBytes + kPageSize),
            EINVAL);
  const UniqueFd plain(::open(nodes_.folder().c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  EXPECT_EQ(lend(plain.get(), kBytes), EINVAL);
  const UniqueFd huge = memory(std::uint64_t{2} << 20, F_SEAL_SHRINK, MFD_HUGETLB);
  if (huge) {
    EXPECT_EQ(lend(huge.get(), std::uint64_t{2} << 20), EINVAL);
  }
  EXPECT_EQ(lend(memory(kBytes, F_SEAL_SHRINK).get(), kBytes), 0);
  EXPECT_EQ(lend(memory(kBytes, F_SEAL_SHRINK).get(), kBytes), EBUSY);  // there is one
}

TEST_F(PagesRefused, WhatThisConnectionMayNotUse) {
  constexpr std::uint64_t kBytes = 8 * kPageSize;
  EXPECT_EQ(take(1, 0, 1, 0), ENOENT);  // not opened
  const std::uint32_t number = open(/*write=*/false);
  EXPECT_EQ(take(number, 0, 1, 0), EACCES);
  ASSERT_EQ(open(/*write=*/true), number);
  EXPECT_EQ(take(number, 0, 1, 0), EINVAL);  // no buffer
  ASSERT_EQ(lend(memory(kBytes, F_SEAL_SHRINK).get(), kBytes), 0);
  EXPECT_EQ(take(number, 0, 8, 0), 0);
  EXPECT_EQ(take(number, 0, 9, 0), EINVAL);
  EXPECT_EQ(take(number, 0, 0, 0), EINVAL);
  EXPECT_EQ(take(number, 0, 257, 0), EINVAL);
  EXPECT_EQ(take(number, 0, 8, kPageSize), EINVAL);
  EXPECT_EQ(take(number, 0, 1, kPageSize / 2), EINVAL);
  EXPECT_EQ(take(number, 0, 1, ~std::uint64_t{0} - kPageSize + 1), EINVAL);
  EXPECT_EQ(take(number, kPages - 1, 2, 0), EINVAL);
  EXPECT_EQ(take(number, ~std::uint64_t{0}, 2, 0), EINVAL);
  EXPECT_EQ(take(number, 0, ~std::uint64_t{0}, 0), EINVAL);
  EXPECT_EQ(take(number + 1, 0, 1, 0), ENOENT);
}

// The buffer is used by gobd for as long as it needs it, whatever becomes of the program.
TEST_F(PagesRefused, AProgramThatIsKilledMeanwhile) {
  for (int i = 0; i < 20; ++i) {
    const pid_t program = nodes_.spawn(0, [&](gobelins::Connection&) {
      const auto mover = mover_of(nodes_, 0);
      const std::uint32_t number = *mover->find("c", Use::kMove);
      for (;;) {
        EXPECT_TRUE(mover->put(number, 0, PageMover::kLanePages, 0).ok());
        EXPECT_TRUE(mover->take(number, 0, PageMover::kLanePages, 1, kPages).ok());
      }
      return false;
    });
    ::usleep(20'000);  // somewhere in the middle
    ::kill(program, SIGKILL);
    EXPECT_EQ(Nodes::wait_for(program, kPatienceMs), 128 + SIGKILL);
  }
  const auto mover = mover_of(nodes_, 0);
  EXPECT_TRUE(mover->take(*mover->find("c", Use::kMove), 0, PageMover::kLanePages, 0, 0).ok());
}

}  // namespace
}  // namespace gob
