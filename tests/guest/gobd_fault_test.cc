// Real daemons that lose their RDMA device under load. Needs root, and soft-RoCE on a network
// interface of no other use (rxe0 on rdma0, see inside.sh), which these tests take down and remove.
//
// The load: a program on each node adds to counters in pages that go to and fro. A message that is
// lost, doubled or reordered shows as a wrong sum, or as a program that hangs.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "tests/system/nodes.h"

namespace gob {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kWordsOfPage = 512;
constexpr unsigned kPages = 130;  // three stripes: pages of both managers
constexpr int kPatienceMs = 60'000;

int sh(const std::string& line) { return std::system(line.c_str()); }

long ms_since(Clock::time_point start) {
  return static_cast<long>(
      std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start).count());
}

DaemonConfig settings(const std::string& transport) {
  DaemonConfig config;
  config.cluster = "faults";
  config.budget_bytes = std::uint64_t{32} << 20;
  config.peer_timeout_ms = 2000;
  config.transport = transport;
  return config;
}

// What the programs and the test tell each other: plain memory of this machine.
struct Board {
  std::atomic<bool> stop = false;
  struct Program {
    std::atomic<std::uint64_t> additions = 0;
    std::atomic<std::uint64_t> longest_us = 0;  // an addition took, since it was last set to 0
  } programs[2];
};

class GobdFaults : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(sh("ip link set rdma0 up"), 0);
    ASSERT_EQ(sh("rdma link show rxe0/1 >/dev/null 2>&1 || "
                 "rdma link add rxe0 type rxe netdev rdma0"),
              0);
    void* memory =
        ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    board_ = new (memory) Board;
  }
  void TearDown() override { ::munmap(board_, sizeof(Board)); }

  void start_load(Nodes& nodes) {
    ASSERT_TRUE(nodes.run(0, [](gobelins::Connection& gob) {
      gob.create("counters", kPages * kWordsOfPage * sizeof(std::uint64_t));
      return true;
    }));
    for (const unsigned rank : {0u, 1u}) {
      programs_[rank] = nodes.spawn(rank, [this, rank](gobelins::Connection& gob) {
        auto memory = gob.open("counters").map();
        auto words = memory.as<std::uint64_t>();
        Board::Program& said = board_->programs[rank];
        for (std::uint64_t i = 0; !board_->stop; ++i) {
          const auto begun = Clock::now();
          // Its own word and one of both, in a page that the other one adds to as well.
          const std::size_t page = i * 7 % kPages * kWordsOfPage;
          std::atomic_ref(words[page + 1 + rank]).fetch_add(1);
          std::atomic_ref(words[page]).fetch_add(1);
          const auto us = static_cast<std::uint64_t>(
              std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - begun).count());
          if (us > said.longest_us) said.longest_us = us;
          ++said.additions;
        }
        return true;
      });
    }
    ASSERT_TRUE(more_additions(400));
  }
  // Both programs go on.
  bool more_additions(std::uint64_t count) {
    const std::uint64_t until[] = {board_->programs[0].additions + count,
                                   board_->programs[1].additions + count};
    return eventually([&] {
      return board_->programs[0].additions >= until[0] && board_->programs[1].additions >= until[1];
    });
  }
  void end_load(Nodes& nodes) {
    board_->stop = true;
    for (const pid_t program : programs_) EXPECT_EQ(Nodes::wait_for(program, kPatienceMs), 0);
    std::uint64_t expected[3] = {};
    for (const unsigned rank : {0u, 1u}) {
      expected[1 + rank] = board_->programs[rank].additions;
      expected[0] += expected[1 + rank];
    }
    for (const unsigned node : {0u, 1u}) {
      EXPECT_TRUE(nodes.run(node,
                            [&](gobelins::Connection& gob) {
                              auto memory = gob.open("counters").map();
                              auto words = memory.as<std::uint64_t>();
                              std::uint64_t sums[3] = {};
                              for (std::size_t page = 0; page < kPages; ++page)
                                for (std::size_t i = 0; i < 3; ++i)
                                  sums[i] += words[page * kWordsOfPage + i];
                              for (std::size_t i = 0; i < 3; ++i)
                                if (sums[i] != expected[i])
                                  std::fprintf(stderr, "counter %zu: %llu instead of %llu\n", i,
                                               static_cast<unsigned long long>(sums[i]),
                                               static_cast<unsigned long long>(expected[i]));
                              return std::equal(sums, sums + 3, expected);
                            }))
          << "on n" << node + 1;
    }
  }

  // Looks again and again: what happens in a daemon raises no event here.
  static bool eventually(const std::function<bool()>& done) {
    const auto begun = Clock::now();
    while (!done()) {
      if (ms_since(begun) > kPatienceMs) return false;
      ::poll(nullptr, 0, 20);
    }
    return true;
  }
  // How n2 is reached from n1, or n1 from n2.
  static control::Path path(const Nodes& nodes, unsigned from, unsigned to) {
    const auto stat = nodes.stat(from);
    EXPECT_TRUE(stat.ok()) << stat.error().message();
    if (stat.ok())
      for (const auto& peer : stat->node().peers())
        if (peer.node_id() == to && peer.paths_size() > 0) return peer.paths(0);
    return {};
  }
  static bool fallen_back(const Nodes& nodes) {
    return path(nodes, 0, 1).transport() == "tcp" && path(nodes, 1, 0).transport() == "tcp";
  }
  void expect_one_fall_back(const Nodes& nodes) {
    for (const unsigned node : {0u, 1u}) {
      const control::Path path = this->path(nodes, node, 1 - node);
      EXPECT_EQ(path.transport(), "tcp");
      EXPECT_EQ(path.fall_backs(), 1u);
      EXPECT_NE(path.reason().find("RDMA failed"), std::string::npos) << path.reason();
      EXPECT_NE(nodes.log_of(node).find("messages go on over TCP"), std::string::npos);
      const auto stat = nodes.stat(node);
      ASSERT_TRUE(stat.ok());
      EXPECT_EQ(stat->node().members_size(), 2) << "no node was given up";
    }
    std::printf("longest access meanwhile: %llu ms on n1, %llu ms on n2\n",
                static_cast<unsigned long long>(board_->programs[0].longest_us / 1000),
                static_cast<unsigned long long>(board_->programs[1].longest_us / 1000));
  }
  void forget_longest() {
    for (Board::Program& program : board_->programs) program.longest_us = 0;
  }

  Board* board_ = nullptr;
  pid_t programs_[2] = {};
};

TEST_F(GobdFaults, ARemovedDeviceCostsNoMessageAndNoNode) {
  Nodes nodes(2, settings("auto"));
  ASSERT_EQ(path(nodes, 0, 1).transport(), "verbs");
  ASSERT_EQ(path(nodes, 1, 0).queue_pair_state(), "RTS");
  start_load(nodes);
  forget_longest();
  const auto begun = Clock::now();
  // Ends when both daemons have let go of the device.
  ASSERT_EQ(sh("timeout 30 rdma link delete rxe0"), 0);
  std::printf("device removed under load: gone after %ld ms\n", ms_since(begun));
  ASSERT_TRUE(eventually([&] { return fallen_back(nodes); }));
  ASSERT_TRUE(more_additions(200));
  expect_one_fall_back(nodes);
  end_load(nodes);
  const auto stat = nodes.stat(0);
  ASSERT_TRUE(stat.ok());
  EXPECT_EQ(stat->node().rdma().device(), "");
  EXPECT_EQ(stat->node().rdma().reason(), "the device was removed");
}

TEST_F(GobdFaults, ADeadLinkCostsNoMessageAndNoNode) {
  Nodes nodes(2, settings("auto"));
  start_load(nodes);
  forget_longest();
  const auto begun = Clock::now();
  ASSERT_EQ(sh("ip link set rdma0 down"), 0);
  ASSERT_TRUE(eventually([&] { return fallen_back(nodes); }));
  std::printf("link down under load: all over TCP after %ld ms\n", ms_since(begun));
  ASSERT_TRUE(more_additions(200));
  expect_one_fall_back(nodes);
  end_load(nodes);
}

TEST_F(GobdFaults, AKilledPeerIsNoticedAndComesBackOverRdma) {
  Nodes nodes(2, settings("auto"));
  start_load(nodes);
  const auto begun = Clock::now();
  nodes.kill_node(1);
  ASSERT_TRUE(eventually([&] {
    const auto stat = nodes.stat(0);
    return stat.ok() && stat->node().members_size() == 1;
  }));
  std::printf("peer killed under load: put out of the cluster after %ld ms\n", ms_since(begun));
  // Each access ends: n2's program has lost its node, and n1's meets pages that died with n2.
  for (const pid_t program : programs_)
    EXPECT_EQ(Nodes::wait_for(program, kPatienceMs), 128 + SIGBUS);
  nodes.start(1);
  nodes.wait_ready();
  EXPECT_EQ(path(nodes, 0, 1).transport(), "verbs");
  EXPECT_TRUE(nodes.run_on_all([](gobelins::Connection& gob, unsigned rank) {
    if (rank == 1) gob.create("fresh", 4096);
    gob.barrier("made", 2);
    auto memory = gob.open("fresh").map();
    auto words = memory.as<std::uint64_t>();
    words[rank] = rank + 1;
    gob.barrier("written", 2);
    return words[0] == 1 && words[1] == 2;
  }));
}

TEST_F(GobdFaults, NodesWithAndWithoutRdmaShareMemory) {
  Nodes nodes(3, settings("auto"), GOBD, [](unsigned node, DaemonConfig& config) {
    if (node == 2) config.transport = "tcp";
  });
  EXPECT_EQ(path(nodes, 0, 1).transport(), "verbs");
  EXPECT_EQ(path(nodes, 0, 2).transport(), "tcp");
  EXPECT_EQ(path(nodes, 0, 2).reason(), "the other end offers no RDMA");
  EXPECT_EQ(path(nodes, 2, 0).reason(), "this node is configured for TCP only");
  EXPECT_TRUE(nodes.run_on_all([](gobelins::Connection& gob, unsigned rank) {
    constexpr std::size_t kWords = kPages * kWordsOfPage;
    if (rank == 2) gob.create("mixed", kWords * sizeof(std::uint64_t));
    gob.barrier("made", 3);
    auto memory = gob.open("mixed").map();
    auto words = memory.as<std::uint64_t>();
    for (std::size_t i = rank; i < kWords; i += kWordsOfPage) words[i] = i + 1;
    gob.barrier("written", 3);
    for (std::size_t i = 0; i < kWords; i += kWordsOfPage)
      for (std::size_t other = 0; other < 3; ++other)
        if (words[i + other] != i + other + 1) return false;
    return true;
  }));
  EXPECT_GT(path(nodes, 0, 1).writes(), 0u);
}

}  // namespace
}  // namespace gob
