// Programs on real nodes share memory.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <system_error>

#include "tests/system/nodes.h"

namespace gob {
namespace {

constexpr std::size_t kPage = 4096;

DaemonConfig settings(std::uint32_t shards = 1) {
  DaemonConfig config;
  config.cluster = "sharing";
  config.budget_bytes = std::uint64_t{64} << 20;
  config.shards = shards;
  return config;
}

bool write_and_read_round(gobelins::Connection& gob, unsigned rank, unsigned ranks) {
  constexpr std::size_t kWords = 512 * 512;  // 512 pages, 8 stripes
  if (rank == 0) gob.create("array", kWords * sizeof(std::uint64_t));
  gob.barrier("made", ranks);
  auto memory = gob.open("array").map();
  auto words = memory.as<std::uint64_t>();
  for (std::uint64_t round = 1; round <= 2; ++round) {
    for (std::size_t i = rank; i < kWords; i += 64 * ranks) words[i] = round * kWords + i;
    gob.barrier("written", ranks);
    for (unsigned other = 0; other < ranks; ++other)
      for (std::size_t i = other; i < kWords; i += 64 * ranks)
        if (words[i] != round * kWords + i) return false;
    gob.barrier("read", ranks);
  }
  return true;
}

TEST(Sharing, ThreeNodesSeeEachOthersWrites) {
  Nodes nodes(3, settings());
  EXPECT_TRUE(nodes.run_on_all(
      [](gobelins::Connection& gob, unsigned rank) { return write_and_read_round(gob, rank, 3); }));
}

TEST(Sharing, WorksWithSeveralShards) {
  Nodes nodes(2, settings(4));
  EXPECT_TRUE(nodes.run_on_all(
      [](gobelins::Connection& gob, unsigned rank) { return write_and_read_round(gob, rank, 2); }));
}

TEST(Sharing, ProgramsOnOneNodeShareFrames) {
  Nodes nodes(2, settings());
  std::vector<pid_t> pids;
  for (unsigned rank = 0; rank < 4; ++rank)
    pids.push_back(nodes.spawn(rank / 2, [rank](gobelins::Connection& gob) {
      return write_and_read_round(gob, rank, 4);
    }));
  for (const pid_t pid : pids) EXPECT_EQ(Nodes::wait_for(pid, 60'000), 0);
}

// A node may be asked for a page of a container in the moment in which it learns of the container.
TEST(Sharing, ANewContainerIsKnownToAllNodes) {
  constexpr int kRounds = 600;
  constexpr int kLive = 100;  // the others lag behind
  Nodes nodes(3, settings());
  EXPECT_TRUE(nodes.run_on_all([](gobelins::Connection& gob, unsigned rank) {
    const auto name = [](int round) { return "new." + std::to_string(round); };
    if (rank == 0) {
      for (int round = 0; round < kRounds; ++round) {
        gob.create(name(round), kPage);
        gob.open(name(round)).map().as<int>()[0] = round + 1;
        if (round % kLive == kLive - 1) gob.barrier("seen", 3);
      }
      return true;
    }
    for (int round = 0; round < kRounds; ++round) {
      for (bool there = false; !there;) {
        try {
          const int value = gob.open(name(round)).map().as<int>()[0];
          if (value != 0 && value != round + 1) return false;
          there = true;
        } catch (const std::system_error& error) {
          if (error.code().value() != ENOENT) return false;
        }
      }
      if (round % kLive == kLive - 1) gob.barrier("seen", 3);
    }
    return true;
  }));
}

TEST(Sharing, SystemCallsReachRemotePages) {
  Nodes nodes(2, settings());
  EXPECT_TRUE(nodes.run_on_all([](gobelins::Connection& gob, unsigned rank) {
    if (rank == 0) gob.create("buffer", 8 * kPage);
    gob.barrier("made", 2);
    auto memory = gob.open("buffer").map();
    auto bytes = memory.as<char>();
    if (rank == 0) std::memset(bytes.data(), 'a', 4 * kPage);
    gob.barrier("filled", 2);
    if (rank == 1) {
      int ends[2];
      if (::pipe(ends) != 0) return false;
      char copy[2 * kPage] = {};
      // Out of pages that another node holds, into pages that nobody has touched.
      if (::write(ends[1], bytes.data(), 2 * kPage) != 2 * kPage) return false;
      if (::read(ends[0], bytes.data() + 4 * kPage, 2 * kPage) != 2 * kPage) return false;
      std::memcpy(copy, bytes.data() + 4 * kPage, sizeof copy);
      for (const char c : copy)
        if (c != 'a') return false;
    }
    gob.barrier("read", 2);
    return bytes[6 * kPage - 1] == 'a' && bytes[6 * kPage] == 0;
  }));
}

TEST(Sharing, AReadOnlyMappingCannotWrite) {
  Nodes nodes(1, settings());
  EXPECT_TRUE(nodes.run(0, [](gobelins::Connection& gob) {
    gob.create("read-only", kPage);
    auto memory = gob.open("read-only", gobelins::Access::kRead).map();
    volatile char* byte = memory.as<char>().data();
    if (byte[0] != 0) return false;
    return memory.size_bytes() == kPage;
  }));
}

TEST(Sharing, ATebibyteIsTouchedSparsely) {
  Nodes nodes(2, settings());
  EXPECT_TRUE(nodes.run_on_all([](gobelins::Connection& gob, unsigned rank) {
    constexpr std::uint64_t kSize = std::uint64_t{1} << 40;
    constexpr std::uint64_t kStep = std::uint64_t{1} << 34;
    if (rank == 0) gob.create("huge", kSize);
    gob.barrier("made", 2);
    auto memory = gob.open("huge").map();
    char* bytes = memory.as<char>().data();
    for (std::uint64_t at = rank * kPage; at < kSize; at += kStep)
      bytes[at] = static_cast<char>(1 + rank);
    gob.barrier("touched", 2);
    for (std::uint64_t at = 0; at < kSize; at += kStep)
      if (bytes[at] != 1 || bytes[at + kPage] != 2 || bytes[at + 2 * kPage] != 0) return false;
    return true;
  }));
}

TEST(Sharing, AnotherUserMayNotOpenAPrivateContainer) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become another user";
  Nodes nodes(1, settings());
  ASSERT_EQ(::chmod(nodes.folder().c_str(), 0755), 0);
  ASSERT_TRUE(nodes.run(0, [](gobelins::Connection& gob) {
    gob.create("private", kPage, 0600);
    gob.create("public", kPage, 0644);
    return true;
  }));
  const pid_t stranger = ::fork();
  if (stranger == 0) {
    if (::setgid(65534) != 0 || ::setuid(65534) != 0) ::_exit(3);
    try {
      gobelins::Connection gob(nodes.socket_of(0));
      const auto open = gob.open("public", gobelins::Access::kRead);
      try {
        const auto forbidden = gob.open("private", gobelins::Access::kRead);
      } catch (const std::system_error& error) {
        ::_exit(error.code().value() == EACCES ? 0 : 4);
      }
      ::_exit(5);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "stranger: %s\n", error.what());
      ::_exit(6);
    }
  }
  EXPECT_EQ(Nodes::wait_for(stranger, 30'000), 0);
}

TEST(Sharing, RemovedContainersGiveTheirMemoryBack) {
  Nodes nodes(2, settings());
  // Far more than both budgets together, if anything stayed.
  EXPECT_TRUE(nodes.run(0, [](gobelins::Connection& gob) {
    for (int i = 0; i < 12; ++i) {
      gob.create("passing", std::uint64_t{32} << 20);
      {
        auto memory = gob.open("passing").map();
        auto bytes = memory.as<char>();
        for (std::size_t at = 0; at < bytes.size(); at += kPage) bytes[at] = 1;
      }
      gob.remove("passing");
    }
    return true;
  }));
}

}  // namespace
}  // namespace gob
