// System V segments that the patched kernel links to containers, by real daemons. The programs know
// nothing of Gobelins. Runs in the guest of kernel-patch/try.sh; both nodes are on one machine, so
// their segments have different keys.
#include <gtest/gtest.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstring>
#include <functional>

#include "tests/kernel_patch/programs.h"
#include "tests/system/nodes.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

namespace gob {
namespace {

constexpr std::size_t kPages = 300;  // five stripes, the last one cut
constexpr std::size_t kBytes = kPages * 4096 - 100;

DaemonConfig settings() {
  DaemonConfig config;
  config.cluster = "segments";
  config.linker = "kernel";
  config.shards = 2;
  config.budget_bytes = std::uint64_t{4} << 20;
  config.page_timeout_ms = 3000;
  config.write_back_ms = 0;  // or it would be a matter of time what dies with a node
  return config;
}

// A segment, mapped here. Programs that are forked have it mapped, too.
class Segment {
 public:
  explicit Segment(key_t wanted, std::size_t bytes = kBytes) : key(wanted) {
    id_ = ::shmget(wanted, bytes, IPC_CREAT | IPC_EXCL | 0600);
    EXPECT_GE(id_, 0) << std::strerror(errno);
    void* const address = ::shmat(id_, nullptr, 0);
    EXPECT_NE(address, reinterpret_cast<void*>(-1));
    bytes_ = static_cast<std::uint8_t*>(address);
  }
  ~Segment() {
    ::shmdt(bytes_);
    ::shmctl(id_, IPC_RMID, nullptr);
  }
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;

  [[nodiscard]] std::uint8_t* bytes() const { return bytes_; }
  [[nodiscard]] std::atomic<std::uint64_t>& word(std::size_t page, std::size_t index = 0) const {
    return *reinterpret_cast<std::atomic<std::uint64_t>*>(bytes_ + page * 4096 + index * 8);
  }
  [[nodiscard]] int id() const { return id_; }

  const key_t key;

 private:
  int id_ = -1;
  std::uint8_t* bytes_ = nullptr;
};

// Two nodes, each with a segment, the same container.
class SegmentsTest : public testing::Test {
 protected:
  void attach() {
    bool joined = true;
    ASSERT_EQ(nodes_.attach_segment(0, "board", first_.key, &joined), "");
    EXPECT_FALSE(joined);
    ASSERT_EQ(nodes_.attach_segment(1, "board", second_.key, &joined), "");
    EXPECT_TRUE(joined);
  }

  Nodes nodes_{2, settings(), "/programs/gobd"};
  Segment first_{0x1001};
  Segment second_{0x1002};
};

TEST_F(SegmentsTest, TheFirstSegmentsBytesAreTheContainers) {
  for (std::size_t page = 0; page < kPages; page += 2) first_.word(page) = page + 1;
  std::memset(second_.bytes(), 0xee, kBytes);
  attach();
  const auto stat = nodes_.stat(1);
  ASSERT_TRUE(stat);
  EXPECT_EQ(stat->node().linker(), "kernel");
  ASSERT_EQ(stat->containers_size(), 1);
  EXPECT_EQ(stat->containers(0).segment_key(), second_.key);
  for (std::size_t page = 0; page < kPages; ++page) {
    EXPECT_EQ(second_.word(page), page % 2 == 0 ? page + 1 : 0) << page;
    EXPECT_EQ(second_.word(page, 100), 0u) << page;
  }
  for (std::size_t page = 0; page < kPages; ++page) second_.word(page) = page + 1000;
  for (std::size_t page = 0; page < kPages; ++page) EXPECT_EQ(first_.word(page), page + 1000);
}

TEST_F(SegmentsTest, NoIncrementIsLost) {
  attach();
  constexpr std::uint64_t kTimes = 1000;
  const auto count = [](const Segment& segment, unsigned seed) {
    for (std::uint64_t i = 0; i < kTimes; ++i) {
      seed = seed * 1664525 + 1013904223;
      segment.word(seed >> 16 & 3, 5).fetch_add(1);
    }
    return true;
  };
  std::array<pid_t, 4> programs{};
  for (unsigned i = 0; i < programs.size(); ++i)
    programs[i] = spawn([&] { return count(i % 2 == 0 ? first_ : second_, i); });
  for (const pid_t program : programs) EXPECT_EQ(Nodes::wait_for(program, kWaitMs), 0);
  std::uint64_t sum = 0;
  for (std::size_t page = 0; page < 4; ++page) {
    EXPECT_EQ(first_.word(page, 5), second_.word(page, 5));
    sum += first_.word(page, 5);
  }
  EXPECT_EQ(sum, programs.size() * kTimes);
}

TEST_F(SegmentsTest, WhatTheKernelReadsAndWritesIsShared) {
  attach();
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  ASSERT_EQ(::write(ends[1], "from a system call", 18), 18);
  ASSERT_EQ(::read(ends[0], first_.bytes() + 8 * 4096, 18), 18);
  ASSERT_EQ(::write(ends[1], second_.bytes() + 8 * 4096, 18), 18);
  std::array<char, 18> text{};
  ASSERT_EQ(::read(ends[0], text.data(), text.size()), 18);
  EXPECT_EQ(std::string(text.data(), text.size()), "from a system call");
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_F(SegmentsTest, ProgramsDoWithTheirMappingsWhatTheyLike) {
  attach();
  change_mappings(first_, second_, kPages);
  EXPECT_EQ(run([&] {  // madvise: forget the mapping; push it out
              second_.word(6) = 73;
              if (::madvise(second_.bytes(), 16 * 4096, MADV_DONTNEED) != 0) return false;
              if (second_.word(6) != 73 || second_.word(7) != 14) return false;
              if (::madvise(second_.bytes(), 16 * 4096, MADV_PAGEOUT) != 0) return false;
              return second_.word(6) == 73 && second_.word(8) == 15;
            }),
            0);
  EXPECT_EQ(first_.word(6), 73u);
  // What would change pages behind the protocol's back is refused.
  EXPECT_EQ(::madvise(second_.bytes(), 4096, MADV_REMOVE), -1);
  EXPECT_EQ(errno, EOPNOTSUPP);
  for (std::size_t page = 9; page < 32; ++page) EXPECT_EQ(second_.word(page), page + 7);
}

// Pages of System V segments, of the whole machine, that are swapped out.
std::uint64_t swapped_pages() {
  shm_info info{};
  EXPECT_GE(::shmctl(0, SHM_INFO, reinterpret_cast<shmid_ds*>(&info)), 0);
  return info.shm_swp;
}

TEST_F(SegmentsTest, SwappedPagesComeBackAndLinkedOnesStayInMemory) {
  const auto push_out = [&] {
    for (const Segment* segment : {&first_, &second_})
      ASSERT_EQ(::madvise(segment->bytes(), kPages * 4096, MADV_PAGEOUT), 0);
  };
  for (std::size_t page = 0; page < kPages; ++page) {
    first_.word(page) = page + 1;
    second_.word(page) = 77;
  }
  push_out();
  EXPECT_GT(swapped_pages(), kPages);
  attach();
  EXPECT_EQ(swapped_pages(), 0u);
  for (std::size_t page = 0; page < kPages; ++page) EXPECT_EQ(second_.word(page), page + 1);
  // Each node has pages that the other one wrote, and pushes out all it can.
  for (std::size_t page = 0; page < kPages; ++page)
    (page % 2 == 0 ? first_ : second_).word(page, 1) = page + 2;
  push_out();
  EXPECT_EQ(swapped_pages(), 0u);
  for (std::size_t page = 0; page < kPages; ++page) {
    EXPECT_EQ(first_.word(page, 1), page + 2);
    EXPECT_EQ(second_.word(page, 1), page + 2);
  }
  // Once detached they are memory like any other.
  ASSERT_EQ(nodes_.detach(1, "board"), "");
  ASSERT_EQ(nodes_.detach(0, "board"), "");
  push_out();
  EXPECT_GT(swapped_pages(), kPages);
  for (std::size_t page = 0; page < kPages; ++page) {
    EXPECT_EQ(first_.word(page), page + 1);
    EXPECT_EQ(second_.word(page, 1), page + 2);
  }
}

TEST_F(SegmentsTest, SegmentsLargerThanANodesMemoryKeepAllBytes) {
  constexpr std::size_t kManyPages = 1500;  // a node has frames for 1024
  Segment one(0x2001, kManyPages * 4096);
  Segment two(0x2002, kManyPages * 4096);
  ASSERT_EQ(nodes_.attach_segment(0, "large", one.key), "");
  ASSERT_EQ(nodes_.attach_segment(1, "large", two.key), "");
  for (std::size_t page = 0; page < kManyPages; ++page) two.word(page) = page * 3;
  for (std::size_t page = 0; page < kManyPages; ++page) ASSERT_EQ(two.word(page), page * 3);
  for (std::size_t page = 0; page < kManyPages; ++page) ASSERT_EQ(one.word(page), page * 3);
}

TEST_F(SegmentsTest, DetachLeavesTheBytes) {
  attach();
  for (std::size_t page = 0; page < kPages; ++page)
    (page % 3 == 0 ? first_ : second_).word(page) = page + 5;
  // Somebody uses what is detached all the while.
  const pid_t writer = spawn([&] {
    for (std::uint64_t i = 1;; ++i) {
      second_.word(i % 50, 9) = i;
      if (second_.word(60, 9) != 0) return true;
    }
  });
  const pid_t other = spawn([&] {
    for (std::uint64_t i = 1;; ++i) {
      first_.word(i % 50, 11) = i;
      if (first_.word(61, 9) != 0) return true;
    }
  });
  ASSERT_EQ(nodes_.detach(1, "board"), "");
  for (std::size_t page = 0; page < kPages; ++page) EXPECT_EQ(second_.word(page), page + 5) << page;
  second_.word(60, 9) = 1;
  EXPECT_EQ(Nodes::wait_for(writer, kWaitMs), 0);
  EXPECT_EQ(first_.word(60, 9), 0u);  // it is its own now
  ASSERT_EQ(nodes_.detach(0, "board"), "");
  for (std::size_t page = 0; page < kPages; ++page) EXPECT_EQ(first_.word(page), page + 5) << page;
  first_.word(61, 9) = 1;
  EXPECT_EQ(Nodes::wait_for(other, kWaitMs), 0);
  const auto stat = nodes_.stat(0);
  ASSERT_TRUE(stat);
  EXPECT_EQ(stat->containers_size(), 0);
  EXPECT_NE(nodes_.detach(0, "board"), "");
  attach();  // and once more
  EXPECT_EQ(second_.word(7), 12u);
}

// A fault that is under way when the link is made is waited for, and asks for its page.
TEST_F(SegmentsTest, ASegmentInUseIsAttachedAndNothingIsLost) {
  const pid_t counts = spawn([&] {
    std::uint64_t rounds = 0;
    for (; first_.word(0, 1) == 0; ++rounds)
      for (std::size_t page = 0; page < kPages; ++page) {
        first_.word(page, 2).fetch_add(1);
        ::madvise(first_.bytes() + page * 4096, 4096, MADV_DONTNEED);  // the next one faults
      }
    for (std::size_t page = 0; page < kPages; ++page)
      if (first_.word(page, 2) != rounds) return false;
    return true;
  });
  for (int i = 0; i < 5; ++i) {
    ASSERT_EQ(nodes_.attach_segment(0, "board", first_.key), "");
    ASSERT_EQ(nodes_.detach(0, "board"), "");
  }
  first_.word(0, 1) = 1;
  EXPECT_EQ(Nodes::wait_for(counts, kWaitMs), 0);
}

TEST_F(SegmentsTest, ANodeThatLeavesLeavesTheBytes) {
  attach();
  for (std::size_t page = 0; page < kPages; ++page) first_.word(page) = page + 5;
  for (std::size_t page = 0; page < kPages; page += 2) second_.word(page) = page + 6;
  EXPECT_EQ(nodes_.stop_node(1), 0);
  for (std::size_t page = 0; page < kPages; ++page)
    EXPECT_EQ(second_.word(page), page + 5 + (page % 2 == 0)) << page;
  for (std::size_t page = 0; page < kPages; ++page)
    EXPECT_EQ(first_.word(page), page + 5 + (page % 2 == 0)) << page;
}

TEST_F(SegmentsTest, WhoseGobdIsKilledGetsSigbusAndNoOldBytes) {
  attach();
  for (std::size_t page = 0; page < 100; ++page) first_.word(page) = page + 5;
  EXPECT_EQ(second_.word(3), 8u);
  second_.word(4) = 40;
  nodes_.kill_node(1);
  // Its pages are taken away; who waits for one does not wait for ever, and can be killed.
  int status = 0;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(kWaitMs);
  while (status == 0 && std::chrono::steady_clock::now() < deadline)
    status = run([&] { return second_.word(3) == 8; });
  EXPECT_EQ(status, 128 + SIGBUS);
  const pid_t waits = spawn([&] { return second_.word(5) != 0; });
  ::kill(waits, SIGKILL);
  const int ended = Nodes::wait_for(waits, kWaitMs);
  EXPECT_TRUE(ended == 128 + SIGKILL || ended == 128 + SIGBUS) << ended;
  for (std::size_t page = 0; page < 4; ++page) EXPECT_EQ(first_.word(page), page + 5);
  // Its gobd comes back: SIGBUS at once, until the segment is attached again.
  nodes_.start(1);
  nodes_.wait_ready();
  EXPECT_EQ(run([&] { return second_.word(3) != 0; }), 128 + SIGBUS);
  bool joined = false;
  ASSERT_EQ(nodes_.attach_segment(1, "board", second_.key, &joined), "");
  EXPECT_TRUE(joined);
  first_.word(3) = 33;
  EXPECT_EQ(second_.word(3), 33u);
  // What only the dead node had is lost, and said to be.
  EXPECT_EQ(run([&] { return first_.word(4) != 0; }), 128 + SIGBUS);
}

TEST_F(SegmentsTest, WhatIsLostIsNamedAndZeroOnlyIfThatIsAccepted) {
  for (std::size_t page = 0; page < kPages; ++page) first_.word(page) = page + 5;
  attach();
  // Downwards: in order, more would be fetched ahead for writing, and lost, too.
  for (const std::size_t page : {18, 17, 4}) second_.word(page) = 40;
  EXPECT_EQ(second_.word(5), 10u);  // a copy: not lost
  nodes_.kill_node(1);
  detach_with_losses(nodes_, "board", kPages, {{4, 1}, {17, 2}}, "4, 17-18");
  for (std::size_t page = 0; page < kPages; ++page) {
    const bool lost = page == 4 || page == 17 || page == 18;
    EXPECT_EQ(first_.word(page), lost ? 0 : page + 5) << page;
  }
  first_.word(4) = 1;
  EXPECT_EQ(first_.word(4), 1u);
  ASSERT_EQ(nodes_.attach_segment(0, "board", first_.key), "");  // as any other
  Nodes::Lost lost;
  EXPECT_EQ(nodes_.detach(0, "board", /*lossy=*/true, &lost), "");
  EXPECT_TRUE(lost.empty());
}

TEST_F(SegmentsTest, ProgramsOfLibgobShareItOnOtherNodes) {
  ASSERT_EQ(nodes_.attach_segment(0, "board", first_.key), "");
  first_.word(2) = 22;
  EXPECT_TRUE(nodes_.run(1, [&](gobelins::Connection& gob) {
    auto memory = gob.open("board").map();
    auto words = memory.as<std::uint64_t>();
    words[3 * 512] = 33;
    return words[2 * 512] == 22;
  }));
  EXPECT_EQ(first_.word(3), 33u);
  EXPECT_FALSE(nodes_.run(0, [&](gobelins::Connection& gob) {
    auto memory = gob.open("board").map();  // not where a segment is linked
    return memory.as<std::uint64_t>()[0] == 0;
  }));
}

TEST_F(SegmentsTest, WhatCannotBeAttachedIsRefusedWithTheReason) {
  attach();
  EXPECT_NE(nodes_.attach_segment(0, "other", 0x7777).find("none with this key"), std::string::npos);
  EXPECT_NE(nodes_.attach_segment(0, "board", 0x7777).find("already"), std::string::npos);
  EXPECT_NE(nodes_.attach_segment(1, "other", first_.key).find("linked already"), std::string::npos);
  Segment small(0x3001, 4096);
  Segment large(0x3002, 8192);
  ASSERT_EQ(nodes_.attach_segment(0, "small", small.key), "");
  EXPECT_NE(nodes_.attach_segment(1, "small", large.key).find("it has 8192 bytes"),
            std::string::npos);
  large.word(0) = 1;  // and it is as it was
  EXPECT_EQ(large.word(0), 1u);
}

}  // namespace
}  // namespace gob
