// The end of attached files whose newest bytes are in the memory of another node: on the disk when
// gobctl detach returns, or still attached.
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "tests/system/failing_disk.h"
#include "tests/system/file_nodes.h"
#include "tests/system/mapped_file.h"

namespace gob {
namespace {

constexpr std::size_t kPage = 4096;

// Nothing but what asks for it writes back.
DaemonConfig no_clock() {
  DaemonConfig config = file_settings();
  config.write_back_ms = 0;
  return config;
}

// A program at node 2 that fills a mapped file of `bytes` with 'w', and has it until it is ended.
class Writer {
 public:
  Writer(const Nodes& nodes, const std::string& name, std::size_t bytes) {
    int told[2];
    EXPECT_EQ(::pipe(told), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::close(told[0]);
      const MappedFile file(nodes, 1, name, bytes);
      std::memset(file.at(0), 'w', bytes);
      static_cast<void>(!::write(told[1], "1", 1));
      ::pause();
      ::_exit(0);
    }
    ::close(told[1]);
    char byte = 0;
    wrote_ = ::read(told[0], &byte, 1) == 1;
    ::close(told[0]);
  }
  ~Writer() {
    ::kill(pid_, SIGKILL);
    Nodes::wait_for(pid_, 10'000);
  }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  [[nodiscard]] bool wrote() const { return wrote_; }

 private:
  pid_t pid_ = -1;
  bool wrote_ = false;
};

void make_file(const std::string& path, std::size_t bytes) {
  std::ofstream(path) << ".";
  std::filesystem::resize_file(path, bytes);
}

class DetachAskedAt : public testing::TestWithParam<unsigned> {};

TEST_P(DetachAskedAt, WhatProgramsMappedIsOnTheDiskWhenItReturns) {
  constexpr std::size_t kBytes = 2048 * kPage;
  Nodes nodes(3, no_clock());
  const SharedFolder folder;
  folder.attach(nodes);
  const std::string path = folder.tree() + "/data";
  make_file(path, kBytes);
  const Writer writer(nodes, "/data", kBytes);
  ASSERT_TRUE(writer.wrote());
  ASSERT_EQ(content(path)[0], '.') << "something else has written it back";
  EXPECT_EQ(nodes.detach(GetParam(), "tree"), "");
  EXPECT_TRUE(content(path) == std::string(kBytes, 'w'));
  EXPECT_FALSE(std::filesystem::exists(seen_at(nodes, 1)));
}

// The home, who writes, a node that has nothing to do with it.
INSTANTIATE_TEST_SUITE_P(Nodes, DetachAskedAt, testing::Values(0u, 1u, 2u));

// The disk has no room for what is stored into a hole: known only when it is written.
TEST(Detach, WhatTheDiskDoesNotTakeStaysAttached) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to mount a small file system";
  constexpr std::size_t kBytes = 512 * kPage;
  Nodes nodes(2, no_clock());
  const SharedFolder folder;
  ASSERT_EQ(::mount("tmpfs", folder.tree().c_str(), "tmpfs", 0, "size=1m"), 0);
  folder.attach(nodes);
  const std::string path = folder.tree() + "/data";
  make_file(path, kBytes);
  {
    const Writer writer(nodes, "/data", kBytes);
    ASSERT_TRUE(writer.wrote());
    for (const unsigned asked : {0u, 1u}) {
      const std::string why = nodes.detach(asked, "tree");
      EXPECT_NE(why.find("stays attached"), std::string::npos) << why;
      EXPECT_NE(why.find("/data"), std::string::npos) << why;
      EXPECT_NE(why.find("No space left"), std::string::npos) << why;
    }
    EXPECT_TRUE(content(seen_at(nodes, 1) + "/data") == std::string(kBytes, 'w'));
  }
  // Nor is it lost with the program, nor by what failed.
  ASSERT_EQ(::mount("tmpfs", folder.tree().c_str(), "tmpfs", MS_REMOUNT, "size=8m"), 0);
  EXPECT_EQ(nodes.detach(0, "tree"), "");
  EXPECT_TRUE(content(path) == std::string(kBytes, 'w'));
  EXPECT_EQ(::umount2(folder.tree().c_str(), MNT_DETACH), 0);
}

// Is refused but for what is told to be lossy. What was said of it.
std::string detach_of_failing_disk(Nodes& nodes) {
  const std::string why = nodes.detach(0, "tree");
  EXPECT_NE(why.find("stays attached"), std::string::npos) << why;
  EXPECT_NE(why.find("Input/output error"), std::string::npos) << why;
  EXPECT_EQ(nodes.detach(0, "tree", /*lossy=*/true), "");
  return why;
}

// The program has written it and has ended, and its node has left: what is to be synced then is
// asked for by nobody but the home itself.
TEST(Detach, AFailingDiskIsToldOfAFileThatNobodyKnowsAnyMore) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to make a disk that fails";
  constexpr std::size_t kBytes = 64 * kPage;
  Nodes nodes(2, no_clock());
  const SharedFolder folder;
  FailingDisk disk(folder.tree());
  ASSERT_TRUE(disk.ok()) << "no loop device with ext4: " << std::strerror(errno);
  folder.attach(nodes);
  make_file(folder.tree() + "/data", kBytes);
  {
    const Writer writer(nodes, "/data", kBytes);
    ASSERT_TRUE(writer.wrote());
  }
  ASSERT_TRUE(disk.fail());
  EXPECT_EQ(nodes.stop_node(1), 0);
  EXPECT_NE(detach_of_failing_disk(nodes).find("/data"), std::string::npos);
}

TEST(Detach, AFailingDiskIsToldOfAFileThatWasWrittenWhileItsNodeWasAway) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to make a disk that fails";
  constexpr std::size_t kBytes = 16 * kPage;
  Nodes nodes(3, no_clock());
  const SharedFolder folder;
  FailingDisk disk(folder.tree());
  ASSERT_TRUE(disk.ok()) << "no loop device with ext4: " << std::strerror(errno);
  folder.attach(nodes);
  make_file(folder.tree() + "/data", kBytes);
  const Writer writer(nodes, "/data", kBytes);
  ASSERT_TRUE(writer.wrote());
  nodes.kill_node(0);
  ASSERT_TRUE(disk.fail());
  nodes.start(0);
  nodes.wait_ready();
  detach_of_failing_disk(nodes);
}

TEST(Detach, WhoAcceptsTheLossGetsRidOfADiskThatIsFull) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to mount a small file system";
  constexpr std::size_t kBytes = 512 * kPage;
  Nodes nodes(2, no_clock());
  const SharedFolder folder;
  ASSERT_EQ(::mount("tmpfs", folder.tree().c_str(), "tmpfs", 0, "size=1m"), 0);
  folder.attach(nodes);
  make_file(folder.tree() + "/data", kBytes);
  const Writer writer(nodes, "/data", kBytes);
  ASSERT_TRUE(writer.wrote());
  ASSERT_NE(nodes.detach(1, "tree"), "");
  EXPECT_EQ(nodes.detach(1, "tree", /*lossy=*/true), "");
  EXPECT_FALSE(std::filesystem::exists(seen_at(nodes, 1)));
  EXPECT_NE(nodes.log_of(1).find("is detached with losses"), std::string::npos);
  EXPECT_EQ(::umount2(folder.tree().c_str(), MNT_DETACH), 0);
}

TEST(Detach, FilesOfANodeThatIsAwayStayUntilItReturns) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to find a file again after a restart";
  constexpr std::size_t kBytes = 16 * kPage;
  Nodes nodes(3, no_clock());
  const SharedFolder folder;
  folder.attach(nodes);
  const std::string path = folder.tree() + "/data";
  make_file(path, kBytes);
  const Writer writer(nodes, "/data", kBytes);
  ASSERT_TRUE(writer.wrote());
  nodes.kill_node(0);
  // The others agree first that it is away.
  EXPECT_TRUE(nodes.run(2, [](gobelins::Connection& gob) {
    gob.create("agreed", kPage);
    return true;
  }));
  const std::string why = nodes.detach(2, "tree");
  EXPECT_NE(why.find("stays attached"), std::string::npos) << why;
  EXPECT_NE(why.find("n1"), std::string::npos) << why;
  nodes.start(0);
  nodes.wait_ready();
  EXPECT_EQ(nodes.detach(0, "tree"), "");
  EXPECT_TRUE(content(path) == std::string(kBytes, 'w'));
}

// It writes what others have of the time before, which takes a while; the file is used meanwhile.
TEST(Detach, WhatAHomeThatReturnedWritesDoesNotComeOverWhatIsDoneSince) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to find a file again after a restart";
  constexpr std::size_t kBytes = 6144 * kPage;
  constexpr std::size_t kKept = 100;
  Nodes nodes(3, no_clock());
  const SharedFolder folder;
  folder.attach(nodes);
  const std::string cut = folder.tree() + "/cut";
  const std::string written = folder.tree() + "/written";
  make_file(cut, kBytes);
  make_file(written, kBytes);
  const Writer one(nodes, "/cut", kBytes);
  const Writer other(nodes, "/written", kBytes);
  ASSERT_TRUE(one.wrote() && other.wrote());
  nodes.kill_node(0);
  nodes.start(0);
  nodes.wait_ready();
  EXPECT_TRUE(runs_to_its_end([&] {
    while (::truncate((seen_at(nodes, 2) + "/cut").c_str(), kKept) != 0) ::usleep(1000);
    const UniqueFd fd(::open((seen_at(nodes, 2) + "/written").c_str(), O_WRONLY));
    return ::pwrite(fd.get(), "new", 3, kBytes - 3) == 3;
  }));
  EXPECT_EQ(nodes.detach(0, "tree"), "");
  EXPECT_EQ(std::filesystem::file_size(cut), kKept);
  EXPECT_TRUE(content(cut) == std::string(kKept, 'w'));
  EXPECT_TRUE(content(written) == std::string(kBytes - 3, 'w') + "new");
}

// Nobody has read or written any of it, so nothing can be lost.
TEST(Detach, AFolderNobodyUsedGoesWithoutItsHome) {
  Nodes nodes(3, no_clock());
  const SharedFolder folder;
  folder.attach(nodes);
  nodes.kill_node(0);
  EXPECT_TRUE(nodes.run(1, [](gobelins::Connection& gob) {
    gob.create("agreed", kPage);
    return true;
  }));
  EXPECT_EQ(nodes.detach(1, "tree"), "");
}

// The last node that knows a file goes, and the home right after it.
TEST(Detach, AHomeThatLeavesWaitsForFilesThatNobodyKnowsAnyMore) {
  constexpr std::size_t kBytes = 2048 * kPage;
  Nodes nodes(2, no_clock());
  const SharedFolder folder;
  folder.attach(nodes);
  const std::string path = folder.tree() + "/data";
  make_file(path, kBytes);
  {
    const Writer writer(nodes, "/data", kBytes);
    ASSERT_TRUE(writer.wrote());
  }
  EXPECT_EQ(nodes.stop_node(1), 0);
  EXPECT_EQ(nodes.stop_node(0), 0);
  EXPECT_TRUE(content(path) == std::string(kBytes, 'w'));
}

}  // namespace
}  // namespace gob
