// Programs and nodes that are killed: a defined end for everybody who depends on them, nothing for
// the others.
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <string>
#include <thread>

#include "libgob/runtime/control_client.h"
#include "tests/system/nodes.h"

namespace gob {
namespace {

constexpr std::size_t kPage = 4096;
constexpr unsigned kPages = 192;  // three stripes: every node manages one

DaemonConfig settings() {
  DaemonConfig config;
  config.cluster = "death";
  config.budget_bytes = std::uint64_t{64} << 20;
  config.page_timeout_ms = 6000;
  config.peer_timeout_ms = 1000;
  return config;
}

// Bound on everything that waits for pages: the page time-out, twice over for a busy machine.
constexpr int kEndsWithinMs = 20'000;

// Pipe: what a parent and a program tell each other.
struct Pipe {
  int ends[2];
  Pipe() { EXPECT_EQ(::pipe(ends), 0); }
  ~Pipe() {
    ::close(ends[0]);
    ::close(ends[1]);
  }
  void tell() const { EXPECT_EQ(::write(ends[1], "x", 1), 1); }
  void hear() const {
    char c = 0;
    EXPECT_EQ(::read(ends[0], &c, 1), 1);
  }
};

// The thread waits for what another one or gobd says.
void until_waits(pid_t thread) {
  const std::string path = "/proc/self/task/" + std::to_string(thread) + "/syscall";
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(kEndsWithinMs);
  for (long call = -1; call != SYS_poll && call != SYS_recvmsg && call != SYS_futex;) {
    if (!(std::ifstream(path) >> call)) call = -1;
    if (std::chrono::steady_clock::now() > end) return;  // the test fails without it
    std::this_thread::yield();
  }
}

TEST(Death, AKilledProgramLeavesNothingBehind) {
  Nodes nodes(2, settings());
  ASSERT_TRUE(nodes.run(1, [](gobelins::Connection& gob) {
    gob.create("shared", kPages * kPage);
    gob.open("shared").map().as<char>()[0] = 7;
    return true;
  }));
  const Pipe busy;
  const pid_t victim = nodes.spawn(0, [&](gobelins::Connection& gob) {
    auto memory = gob.open("shared").map();
    auto bytes = memory.as<char>();
    gob.mutex("held").lock();
    for (unsigned i = 0;; ++i) {
      bytes[(i % kPages) * kPage + 1] = static_cast<char>(1 + i % 100);
      if (i == kPages) busy.tell();
    }
    return true;
  });
  busy.hear();
  ::kill(victim, SIGKILL);
  EXPECT_EQ(Nodes::wait_for(victim, kEndsWithinMs), 128 + SIGKILL);
  // Its lock goes to the next, who is told; what it wrote is there; the other byte is untouched.
  EXPECT_TRUE(nodes.run(1, [](gobelins::Connection& gob) {
    if (!gob.mutex("held").lock_owner_died()) return false;
    auto memory = gob.open("shared").map();
    auto bytes = memory.as<char>();
    for (unsigned page = 1; page < kPages; ++page)
      if (bytes[page * kPage + 1] == 0) return false;
    return bytes[0] == 7;
  }));
  auto client = ControlClient::connect(nodes.socket_of(0), "death_test");
  ASSERT_TRUE(client.ok()) << client.error().message();
  control::Request request;
  request.mutable_stat();
  const auto answer = (*client)->call(request);
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(answer->reply.stat().node().mappings(), 0u);
  EXPECT_EQ(answer->reply.stat().node().clients(), 1u) << "this connection only";
}

TEST(Death, OfANodeEndsItsProgramsInSigbus) {
  Nodes nodes(2, settings());
  const Pipe mapped;
  const pid_t orphan = nodes.spawn(1, [&](gobelins::Connection& gob) {
    gob.create("own", kPages * kPage);
    auto memory = gob.open("own").map();
    volatile char* bytes = memory.as<char>().data();
    bytes[0] = 1;
    mapped.tell();
    return gets_sigbus([&] {
      for (unsigned i = 0;; ++i) bytes[(i % kPages) * kPage] = 2;
    });
  });
  mapped.hear();
  nodes.kill_node(1);
  EXPECT_EQ(Nodes::wait_for(orphan, kEndsWithinMs), 0);
}

TEST(Death, OfANodeEndsEveryAccessThatNeedsItAndNoOther) {
  Nodes nodes(3, settings());
  ASSERT_TRUE(nodes.run_on_all([](gobelins::Connection& gob, unsigned rank) {
    if (rank == 0) {
      gob.create("mixed", kPages * kPage);
      gob.create("kept", kPage);
      gob.open("kept").map().as<std::uint64_t>()[0] = 1234;
    }
    gob.barrier("made", 3);
    auto memory = gob.open("mixed").map();
    auto bytes = memory.as<char>();
    // Every third page is node n3's alone.
    for (unsigned page = rank; page < kPages; page += 3)
      bytes[page * kPage] = static_cast<char>(1 + rank);
    gob.barrier("written", 3);
    return true;
  }));
  nodes.kill_node(2);
  // Every page ends: with its value, or in SIGBUS if it was n3's. None with a wrong value.
  const auto look = [](gobelins::Connection& gob) {
    auto memory = gob.open("mixed", gobelins::Access::kRead).map();
    volatile const char* bytes = memory.as<char>().data();
    for (unsigned page = 0; page < kPages; ++page) {
      char seen = 0;
      const bool refused = gets_sigbus([&] { seen = bytes[page * kPage]; });
      if (refused != (page % 3 == 2)) {
        std::fprintf(stderr, "page %u: %s\n", page, refused ? "refused" : "not refused");
        return false;
      }
      if (!refused && seen != static_cast<char>(1 + page % 3)) return false;
    }
    return gob.open("kept").map().as<std::uint64_t>()[0] == 1234;
  };
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_TRUE(nodes.run(0, look));
  EXPECT_TRUE(nodes.run(1, look));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(kEndsWithinMs));
  const std::string log = nodes.log_of(0) + nodes.log_of(1);
  EXPECT_NE(log.find("its bytes died with their node (node n3)"), std::string::npos);

  // It comes back empty, and takes part again.
  nodes.start(2);
  nodes.wait_ready();
  EXPECT_TRUE(nodes.run_on_all([](gobelins::Connection& gob, unsigned rank) {
    if (rank == 2) gob.create("fresh", kPages * kPage);
    gob.barrier("again", 3);
    auto memory = gob.open("fresh").map();
    auto bytes = memory.as<char>();
    for (unsigned page = rank; page < kPages; page += 3)
      bytes[page * kPage] = static_cast<char>(1 + rank);
    gob.barrier("written again", 3);
    for (unsigned page = 0; page < kPages; ++page)
      if (bytes[page * kPage] != static_cast<char>(1 + page % 3)) return false;
    return true;
  }));
}

TEST(Death, BreaksABarrierInsteadOfHangingIt) {
  Nodes nodes(3, settings());
  const Pipe waiting;
  const pid_t waiter = nodes.spawn(0, [&](gobelins::Connection& gob) {
    // Once it waits for an answer it has asked, and what is asked then on the same connection is
    // answered after gobd has taken that.
    std::jthread told([&, main = ::getpid()] {
      until_waits(main);
      gob.mutex("any").lock();
      waiting.tell();
    });
    try {
      gob.barrier("never", 2);
    } catch (const std::system_error& error) {
      return error.code().value() == EOWNERDEAD;
    }
    return false;
  });
  waiting.hear();
  nodes.kill_node(2);
  EXPECT_EQ(Nodes::wait_for(waiter, kEndsWithinMs), 0);
}

// A machine may have far more to run than its processors carry: that is no death, and no program
// sees it, neither on the node that stands still nor on those that wait for it.
TEST(Death, AGobdThatStandsStillForAWhileIsWaitedFor) {
  constexpr std::size_t kBytes = std::size_t{96} << 20;
  constexpr int kStands = 5;  // peer timeouts
  DaemonConfig config = settings();
  config.page_timeout_ms = DaemonConfig{}.page_timeout_ms;
  config.stall_timeout_ms = 60'000;  // what stands still longer is no subject of this test
  config.budget_bytes = std::uint64_t{256} << 20;
  Nodes nodes(3, config);
  ASSERT_TRUE(nodes.run(0, [](gobelins::Connection& gob) {
    gob.create("data", kBytes);
    auto memory = gob.open("data").map();
    auto bytes = memory.as<char>();
    for (std::size_t at = 0; at < kBytes; at += kPage)
      bytes[at] = static_cast<char>(at / kPage % 100);
    return true;
  }));
  // Whole megabytes are under way to n2 while it stands still, and its window closes.
  const Pipe under_way;
  const auto read_all = [&](gobelins::Connection& gob) {
    auto memory = gob.open("data").map();
    const volatile char* bytes = memory.as<char>().data();
    for (std::size_t at = 0; at < kBytes; at += kPage) {
      if (bytes[at] != static_cast<char>(at / kPage % 100)) return false;
      if (at == kBytes / 16) under_way.tell();
    }
    return true;
  };
  const pid_t there = nodes.spawn(1, read_all);
  under_way.hear();
  ASSERT_TRUE(nodes.suspend(1));
  // n3 wants pages that n2 has, or manages.
  const pid_t beside = nodes.spawn(2, read_all);
  std::this_thread::sleep_for(std::chrono::milliseconds(kStands * config.peer_timeout_ms));
  ASSERT_TRUE(nodes.resume(1));
  EXPECT_EQ(Nodes::wait_for(there, 180'000), 0);
  EXPECT_EQ(Nodes::wait_for(beside, 180'000), 0);
  for (const unsigned node : {0u, 1u, 2u})
    EXPECT_EQ(nodes.log_of(node).find(" is down"), std::string::npos) << nodes.log_of(node);
}

// It stands still for longer than a page is waited for, and the page is here when it runs again.
TEST(Death, AGobdThatStoodStillLooksAtWhatHasComeBeforeItRefuses) {
  DaemonConfig config = settings();
  config.page_timeout_ms = 2000;
  config.stall_timeout_ms = 60'000;
  Nodes nodes(2, config);
  ASSERT_TRUE(nodes.run(0, [](gobelins::Connection& gob) {
    gob.create("data", kPages * kPage);
    auto memory = gob.open("data").map();
    for (unsigned i = 0; i < kPages; ++i) memory.as<char>()[i * kPage] = 'd';
    return true;
  }));
  const Pipe mapped;
  const Pipe go_on;
  const pid_t reader = nodes.spawn(1, [&](gobelins::Connection& gob) {
    auto memory = gob.open("data").map();
    mapped.tell();
    go_on.hear();
    const volatile char* bytes = memory.as<char>().data();
    for (unsigned i = 0; i < kPages; ++i)
      if (bytes[i * kPage] != 'd') return false;
    return true;
  });
  mapped.hear();
  ASSERT_TRUE(nodes.suspend(0));
  go_on.tell();
  std::this_thread::sleep_for(std::chrono::milliseconds(500));  // it has asked
  ASSERT_TRUE(nodes.suspend(1));
  ASSERT_TRUE(nodes.resume(0));
  std::this_thread::sleep_for(std::chrono::milliseconds(2 * config.page_timeout_ms));
  ASSERT_TRUE(nodes.resume(1));
  EXPECT_EQ(Nodes::wait_for(reader, kEndsWithinMs), 0);
}

// Its kernel acknowledges all that is sent to it, and its sockets are open.
TEST(Death, OfAGobdThatIsStoppedIsNoticed) {
  DaemonConfig config = settings();
  config.stall_timeout_ms = 6000;
  Nodes nodes(3, config);
  const Pipe taken;
  const pid_t holder = nodes.spawn(2, [&](gobelins::Connection& gob) {
    gob.mutex("held").lock();
    taken.tell();
    ::pause();
    return true;
  });
  taken.hear();
  ASSERT_TRUE(nodes.suspend(2));
  // Whoever waits for its lock has it when the others have gone on without that node.
  const pid_t waiting =
      nodes.spawn(0, [](gobelins::Connection& gob) { return gob.mutex("held").lock_owner_died(); });
  EXPECT_EQ(Nodes::wait_for(waiting, 60'000), 0);
  EXPECT_NE(nodes.log_of(0).find("it is stopped or hangs"), std::string::npos) << nodes.log_of(0);
  // It learns that, and ends, rather than to serve anything old.
  ASSERT_TRUE(nodes.resume(2));
  EXPECT_EQ(nodes.await_end(2), 75);
  ::kill(holder, SIGKILL);
  Nodes::wait_for(holder, kEndsWithinMs);
  EXPECT_TRUE(nodes.run(1, [](gobelins::Connection& gob) {
    gob.create("after", kPage);
    return true;
  }));
}

// Who put it out went on alone, and is dead when it runs again: nobody can tell it, and all it sees
// are closed links and a host that refuses connections, as if it were the survivor.
TEST(Death, AGobdThatWasPutOutByOneThatDiedSinceDoesNotGoOn) {
  DaemonConfig config = settings();
  config.stall_timeout_ms = 6000;
  config.page_timeout_ms = DaemonConfig{}.page_timeout_ms;
  Nodes nodes(2, config);
  ASSERT_TRUE(nodes.run(0, [](gobelins::Connection& gob) {
    gob.create("data", kPage);
    gob.open("data").map().as<char>()[0] = 1;
    return true;
  }));
  const Pipe seen;
  // It has a copy of the page, and reads on until its gobd ends.
  const pid_t reader = nodes.spawn(1, [&](gobelins::Connection& gob) {
    auto memory = gob.open("data").map();
    volatile const char* bytes = memory.as<char>().data();
    if (bytes[0] != 1) return false;
    seen.tell();
    return gets_sigbus([&] {
      while (bytes[0] == 1) std::this_thread::yield();
    });
  });
  seen.hear();
  ASSERT_TRUE(nodes.suspend(1));
  // Granted when n1 has gone on without n2.
  ASSERT_TRUE(nodes.run(0, [](gobelins::Connection& gob) {
    gob.open("data").map().as<char>()[0] = 2;
    return true;
  }));
  EXPECT_NE(nodes.log_of(0).find("it is stopped or hangs"), std::string::npos) << nodes.log_of(0);
  nodes.kill_node(0);
  ASSERT_TRUE(nodes.resume(1));
  EXPECT_EQ(nodes.await_end(1), 75);
  EXPECT_EQ(Nodes::wait_for(reader, kEndsWithinMs), 0);
}

}  // namespace
}  // namespace gob
