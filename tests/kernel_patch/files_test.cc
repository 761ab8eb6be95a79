// Plain files that the patched kernel links to containers, by real daemons: programs that know nothing
// of Gobelins map, read and write them. Runs in the guest of kernel-patch/try.sh, on ext4 and with swap;
// both nodes are on one machine, so each has a file of its own.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include "libgob/base/unique_fd.h"
#include "tests/kernel_patch/linked_file.h"
#include "tests/kernel_patch/programs.h"
#include "tests/system/nodes.h"

#ifndef MADV_COLD
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#endif

namespace gob {
namespace {

constexpr std::size_t kPages = File::kPages;

DaemonConfig settings() {
  DaemonConfig config;
  config.cluster = "files";
  config.linker = "kernel";
  config.shards = 2;
  config.budget_bytes = std::uint64_t{1} << 20;
  config.page_timeout_ms = 3000;
  return config;
}

void drop_caches() {
  const UniqueFd drop(::open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC));
  EXPECT_EQ(::write(drop.get(), "3", 1), 1);
}

bool fails(long result, int error) {
  const int was = errno;
  EXPECT_EQ(result, -1);
  EXPECT_EQ(was, error) << std::strerror(was);
  return result == -1 && was == error;
}

// Two nodes, each with a file. The second one's is made when it is attached.
class FilesTest : public testing::Test {
 protected:
  explicit FilesTest(const DaemonConfig& config = settings()) : nodes_{2, config, "/programs/gobd"} {
    first_.make();
    first_.open();
  }
  void attach() {
    bool joined = true;
    ASSERT_EQ(nodes_.link_file(0, "table", first_.path, &joined), "");
    EXPECT_FALSE(joined);
    ASSERT_EQ(nodes_.link_file(1, "table", second_.path, &joined), "");
    EXPECT_TRUE(joined);
    second_.open();
    ASSERT_EQ(second_.length(), first_.length());
  }

  void count_on_both_nodes(bool synced);

  Nodes nodes_;
  File first_{"first"};
  File second_{"second"};
};

TEST_F(FilesTest, TheFirstFilesBytesAreTheContainers) {
  // On the disk, in memory, and in holes.
  for (std::size_t page = 0; page < kPages; page += 3) first_.write(page, page + 1);
  ASSERT_EQ(::fsync(first_.fd()), 0);
  drop_caches();
  for (std::size_t page = 1; page < kPages; page += 3) first_.word(page) = page + 1;
  attach();
  struct stat status {};
  ASSERT_EQ(::stat(second_.path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777u, 0640u);
  const auto stat = nodes_.stat(1);
  ASSERT_TRUE(stat);
  ASSERT_EQ(stat->containers_size(), 1);
  EXPECT_EQ(stat->containers(0).linked_file(), second_.path);
  for (std::size_t page = 0; page < kPages; ++page) {
    EXPECT_EQ(page % 2 == 0 ? second_.read(page) : second_.word(page).load(),
              page % 3 != 2 ? page + 1 : 0)
        << page;
    EXPECT_EQ(second_.word(page, 100), 0u);
  }
  for (std::size_t page = 0; page < kPages; ++page) {
    if (page % 2 == 0)
      second_.write(page, page + 1000);
    else
      second_.word(page) = page + 1000;
  }
  for (std::size_t page = 0; page < kPages; ++page)
    EXPECT_EQ(page % 3 == 0 ? first_.read(page) : first_.word(page).load(), page + 1000);
}

// Four programs count in four pages, on both nodes; `synced`: while the file systems write them to disk.
void FilesTest::count_on_both_nodes(bool synced) {
  attach();
  constexpr std::uint64_t kTimes = 500;
  const auto count = [](const File& file, unsigned seed) {
    for (std::uint64_t i = 0; i < kTimes; ++i) {
      seed = seed * 1664525 + 1013904223;
      file.word(seed >> 16 & 3, 5).fetch_add(1);
    }
    return true;
  };
  const pid_t syncs = spawn([&] {
    while (synced && first_.word(10) == 0)
      if (::fsync(first_.fd()) != 0 || ::fsync(second_.fd()) != 0) return false;
    return true;
  });
  std::array<pid_t, 4> programs{};
  for (unsigned i = 0; i < programs.size(); ++i)
    programs[i] = spawn([&] { return count(i % 2 == 0 ? first_ : second_, i); });
  for (const pid_t program : programs) EXPECT_EQ(Nodes::wait_for(program, kWaitMs), 0);
  first_.word(10) = 1;
  EXPECT_EQ(Nodes::wait_for(syncs, kWaitMs), 0);
  std::uint64_t sum = 0;
  for (std::size_t page = 0; page < 4; ++page) {
    EXPECT_EQ(first_.read(page, 5), second_.word(page, 5));
    sum += first_.word(page, 5);
  }
  EXPECT_EQ(sum, programs.size() * kTimes);
}

TEST_F(FilesTest, NoIncrementIsLost) { count_on_both_nodes(false); }

TEST_F(FilesTest, NoIncrementIsLostWhileFilesAreSynced) { count_on_both_nodes(true); }

// One operation after the other, on either node, in any way; a copy in this process knows better.
TEST_F(FilesTest, WhateverProgramsDoTheyReadWhatWasWrittenLast) {
  attach();
  std::vector<std::uint8_t> model(File::kBytes);
  std::mt19937 random(7);
  const auto below = [&](std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random); };
  for (unsigned step = 0; step < 600; ++step) {
    const File& file = below(2) == 0 ? first_ : second_;
    const std::size_t length = 1 + below(below(4) == 0 ? 20000 : 100);
    const std::size_t at = below(File::kBytes - length);
    std::vector<std::uint8_t> bytes(length, static_cast<std::uint8_t>(step));
    const std::size_t page = at / 4096 * 4096;
    switch (below(10)) {
      case 0:
      case 1:
        std::memcpy(file.bytes() + at, bytes.data(), length);
        std::memcpy(model.data() + at, bytes.data(), length);
        break;
      case 2:
      case 3:
        ASSERT_EQ(::pwrite(file.fd(), bytes.data(), length, static_cast<off_t>(at)),
                  static_cast<ssize_t>(length));
        std::memcpy(model.data() + at, bytes.data(), length);
        break;
      case 4:
      case 5:
        ASSERT_EQ(std::memcmp(file.bytes() + at, model.data() + at, length), 0) << step;
        break;
      case 6:
      case 7:
        ASSERT_EQ(::pread(file.fd(), bytes.data(), length, static_cast<off_t>(at)),
                  static_cast<ssize_t>(length));
        ASSERT_EQ(std::memcmp(bytes.data(), model.data() + at, length), 0) << step;
        break;
      case 8:
        ASSERT_EQ(::madvise(file.bytes() + page, 4096, below(2) == 0 ? MADV_PAGEOUT : MADV_DONTNEED),
                  0);
        break;
      case 9:
        if (below(4) == 0)
          drop_caches();
        else
          ASSERT_EQ(::fsync(file.fd()), 0);
        break;
    }
  }
  ASSERT_EQ(std::memcmp(first_.bytes(), model.data(), File::kBytes), 0);
  ASSERT_EQ(std::memcmp(second_.bytes(), model.data(), File::kBytes), 0);
  ASSERT_EQ(nodes_.detach(1, "table"), "");
  ASSERT_EQ(nodes_.detach(0, "table"), "");
  drop_caches();
  ASSERT_EQ(std::memcmp(first_.bytes(), model.data(), File::kBytes), 0);
  ASSERT_EQ(std::memcmp(second_.bytes(), model.data(), File::kBytes), 0);
}

TEST_F(FilesTest, ProgramsDoWithTheirMappingsWhatTheyLike) {
  attach();
  change_mappings(first_, second_, kPages);
  EXPECT_EQ(first_.read(1), 70u);
  EXPECT_EQ(run([&] {  // madvise: forget the mapping; make it old; push it out; drop what is clean
              second_.word(6) = 73;
              for (const int advice : {MADV_DONTNEED, MADV_COLD, MADV_PAGEOUT}) {
                if (::madvise(second_.bytes(), 16 * 4096, advice) != 0) return false;
                if (second_.word(6) != 73 || second_.word(7) != 14) return false;
              }
              if (::fsync(second_.fd()) != 0) return false;
              if (::madvise(second_.bytes(), 16 * 4096, MADV_PAGEOUT) != 0) return false;
              drop_caches();
              return second_.word(6) == 73 && second_.word(8) == 15;
            }),
            0);
  EXPECT_EQ(first_.read(6), 73u);
  // A private mapping: its writes are its own.
  auto* const own = static_cast<std::uint64_t*>(
      ::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, second_.fd(), 4096 * 9));
  ASSERT_NE(own, MAP_FAILED);
  own[0] = 1;
  EXPECT_EQ(own[512], 17u);
  ::munmap(own, 8192);
  for (std::size_t page = 9; page < 32; ++page) EXPECT_EQ(second_.word(page), page + 7);
}

TEST_F(FilesTest, SpliceAndSendfileMoveWhatIsShared) {
  attach();
  first_.word(3) = 33;
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  loff_t from = 3 * 4096;
  loff_t to = 5 * 4096;
  ASSERT_EQ(::splice(second_.fd(), &from, ends[1], nullptr, 4096, 0), 4096);
  ASSERT_EQ(::splice(ends[0], nullptr, second_.fd(), &to, 4096, 0), 4096);
  EXPECT_EQ(first_.word(5), 33u);
  off_t sent = 5 * 4096;
  ASSERT_EQ(::lseek(second_.fd(), 6 * 4096, SEEK_SET), 6 * 4096);
  ASSERT_EQ(::sendfile(second_.fd(), first_.fd(), &sent, 4096), 4096);
  EXPECT_EQ(first_.word(6), 33u);
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_F(FilesTest, WhatWouldGoPastTheClusterIsRefused) {
  first_.word(1) = 11;
  attach();
  for (const File* file : {&first_, &second_}) {
    EXPECT_TRUE(fails(::ftruncate(file->fd(), 4096), EPERM));
    EXPECT_TRUE(fails(::truncate(file->path.c_str(), 1 << 20), EPERM));
    EXPECT_TRUE(fails(::open(file->path.c_str(), O_RDWR | O_TRUNC), EPERM));
    EXPECT_TRUE(fails(::fallocate(file->fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096),
                      EOPNOTSUPP));
    EXPECT_TRUE(fails(::fallocate(file->fd(), FALLOC_FL_ZERO_RANGE, 0, 4096), EOPNOTSUPP));
    EXPECT_TRUE(fails(::open(file->path.c_str(), O_RDWR | O_DIRECT), EINVAL));
    EXPECT_TRUE(fails(::fcntl(file->fd(), F_SETFL, O_DIRECT), EINVAL));
    EXPECT_TRUE(fails(::madvise(file->bytes(), 4096, MADV_REMOVE), EOPNOTSUPP));
    EXPECT_TRUE(fails(::swapon(file->path.c_str(), 0), EINVAL));
    // There are no pages beyond the end.
    EXPECT_TRUE(fails(::pwrite(file->fd(), "x", 1, kPages * 4096), EIO));
    EXPECT_EQ(file->word(1), 11u);
  }
}

TEST_F(FilesTest, FilesLargerThanANodesMemoryKeepAllBytes) {
  constexpr std::size_t kManyPages = 400;  // a node has frames for 256
  File one("large");
  File two("large-too");
  one.make(kManyPages * 4096);
  one.open();
  ASSERT_EQ(nodes_.link_file(0, "large", one.path), "");
  ASSERT_EQ(nodes_.link_file(1, "large", two.path), "");
  two.open();
  for (std::size_t page = 0; page < kManyPages; ++page) two.word(page) = page * 3;
  for (std::size_t page = 0; page < kManyPages; ++page) ASSERT_EQ(two.read(page), page * 3);
  for (std::size_t page = 0; page < kManyPages; ++page) ASSERT_EQ(one.word(page), page * 3);
  ASSERT_EQ(nodes_.detach(0, "large"), "");
  for (std::size_t page = 0; page < kManyPages; ++page) ASSERT_EQ(one.on_disk(page), page * 3);
}

// Somebody counts in every page, from before the file is attached until after it is detached.
TEST_F(FilesTest, NothingIsLostWhileFilesAreAttachedAndDetached) {
  for (std::size_t page = 0; page < kPages; ++page) first_.word(page) = page;
  const pid_t counts = spawn([&] {
    std::uint64_t rounds = 0;
    for (; first_.word(0, 1) == 0; ++rounds)
      for (std::size_t page = 0; page < kPages; ++page) {
        first_.word(page, 2).fetch_add(1);
        const std::uint64_t written = first_.word(page, 2);
        first_.write(page, written, 3);
      }
    for (std::size_t page = 0; page < kPages; ++page)
      if (first_.word(page, 2) != rounds || first_.read(page, 3) != rounds) return false;
    return true;
  });
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(nodes_.link_file(0, "table", first_.path), "");
    ASSERT_EQ(nodes_.link_file(1, "table", second_.path), "");
    if (i == 0) second_.open();
    for (std::size_t page = 0; page < kPages; ++page)
      second_.word(page, 5 + static_cast<std::size_t>(i)) = page;
    ASSERT_EQ(nodes_.detach(1, "table"), "");
    for (std::size_t page = 0; page < kPages; ++page) EXPECT_EQ(second_.on_disk(page), page);
    ASSERT_EQ(nodes_.detach(0, "table"), "");
  }
  first_.word(0, 1) = 1;
  EXPECT_EQ(Nodes::wait_for(counts, kWaitMs), 0);
  for (std::size_t page = 0; page < kPages; ++page) {
    EXPECT_EQ(first_.on_disk(page), page);
    for (std::size_t i = 5; i < 7; ++i) EXPECT_EQ(first_.word(page, i), page);
  }
  const auto stat = nodes_.stat(0);
  ASSERT_TRUE(stat);
  EXPECT_EQ(stat->containers_size(), 0);
}

TEST_F(FilesTest, ANodeThatLeavesLeavesTheBytesOnItsDisk) {
  attach();
  for (std::size_t page = 0; page < kPages; ++page) first_.word(page) = page + 5;
  for (std::size_t page = 0; page < kPages; page += 2) second_.word(page) = page + 6;
  EXPECT_EQ(nodes_.stop_node(1), 0);
  for (std::size_t page = 0; page < kPages; ++page) {
    EXPECT_EQ(second_.on_disk(page), page + 5 + (page % 2 == 0)) << page;
    EXPECT_EQ(first_.word(page), page + 5 + (page % 2 == 0)) << page;
  }
}

TEST_F(FilesTest, WhoseGobdIsKilledGetsAnErrorAndNoOldBytes) {
  attach();
  for (std::size_t page = 0; page < 100; ++page) first_.word(page) = page + 5;
  EXPECT_EQ(second_.word(3), 8u);
  second_.word(4) = 40;
  nodes_.kill_node(1);
  int status = 0;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(kWaitMs);
  while (status == 0 && std::chrono::steady_clock::now() < deadline)
    status = run([&] { return second_.word(3) == 8; });
  EXPECT_EQ(status, 128 + SIGBUS);
  std::uint64_t value = 0;
  EXPECT_TRUE(fails(::pread(second_.fd(), &value, 8, 3 * 4096), EIO));
  EXPECT_TRUE(fails(::pwrite(second_.fd(), &value, 8, 3 * 4096), EIO));
  for (std::size_t page = 0; page < 4; ++page) EXPECT_EQ(first_.word(page), page + 5);
  // Its gobd comes back: errors at once, until the file is attached again.
  nodes_.start(1);
  nodes_.wait_ready();
  EXPECT_EQ(run([&] { return second_.word(3) != 0; }), 128 + SIGBUS);
  bool joined = false;
  ASSERT_EQ(nodes_.link_file(1, "table", second_.path, &joined), "");
  EXPECT_TRUE(joined);
  first_.word(3) = 33;
  EXPECT_EQ(second_.word(3), 33u);
  // What only the dead node had is lost, and said to be.
  EXPECT_EQ(run([&] { return first_.word(4) != 0; }), 128 + SIGBUS);
}

TEST_F(FilesTest, ASyncBringsWhatOthersWroteToTheDisk) {
  for (std::size_t page = 0; page < kPages; ++page) first_.word(page) = page + 5;
  attach();
  for (std::size_t page = 0; page < kPages; page += 3) second_.word(page) = page + 1000;
  for (std::size_t page = 1; page < kPages; page += 3) second_.write(page, page + 2000);
  const auto expected = [](std::size_t page) {
    return page + (page % 3 == 0 ? 1000 : page % 3 == 1 ? 2000 : 5);
  };
  EXPECT_EQ(::fsync(first_.fd()), 0);
  // Direct reads of a linked file are refused: what the disk has is seen by its blocks.
  EXPECT_NE(first_.in_blocks(0), expected(0));  // as documented: fsync is this node's
  ASSERT_EQ(nodes_.sync(0, "table"), "");
  for (std::size_t page = 0; page < kPages; ++page)
    EXPECT_EQ(first_.in_blocks(page), expected(page)) << page;
  // The same with a program that writes all the while, and what was written before is not lost by it.
  const pid_t writer = spawn([&] {
    for (std::uint64_t i = 1; second_.word(0, 7) == 0; ++i) second_.word(i % kPages, 9) = i;
    return true;
  });
  for (std::size_t page = 0; page < kPages; ++page) second_.word(page) = page + 3000;
  ASSERT_EQ(nodes_.sync(0, "table"), "");
  for (std::size_t page = 0; page < kPages; ++page)
    EXPECT_EQ(first_.in_blocks(page), page + 3000) << page;
  second_.word(0, 7) = 1;
  EXPECT_EQ(Nodes::wait_for(writer, kWaitMs), 0);
  for (std::size_t page = 0; page < kPages; ++page) EXPECT_EQ(second_.word(page), page + 3000);
  EXPECT_NE(nodes_.sync(0, "other").find("no file of this node is linked"), std::string::npos);
}

// Or it would be a matter of time what dies with a node.
DaemonConfig without_write_back() {
  DaemonConfig config = settings();
  config.write_back_ms = 0;
  return config;
}

class LosingFilesTest : public FilesTest {
 protected:
  LosingFilesTest() : FilesTest(without_write_back()) {}
};

// Neither what the home's disk had before, nor what it kept for pages that no node has.
TEST_F(LosingFilesTest, WhatIsLostIsNamedAndZeroOnlyIfThatIsAccepted) {
  for (std::size_t page = 0; page < kPages; ++page) first_.word(page) = page + 5;
  attach();
  // Downwards: in order, more would be fetched ahead for writing, and lost, too.
  for (const std::size_t page : {18, 17, 4}) second_.word(page) = 40;
  nodes_.kill_node(1);
  detach_with_losses(nodes_, "table", kPages, {{4, 1}, {17, 2}}, "4, 17-18");
  for (std::size_t page = 0; page < kPages; ++page) {
    const bool lost = page == 4 || page == 17 || page == 18;
    EXPECT_EQ(first_.word(page), lost ? 0 : page + 5) << page;
    EXPECT_EQ(first_.on_disk(page), lost ? 0 : page + 5) << page;
  }
}

TEST_F(FilesTest, ProgramsOfLibgobAndSegmentsShareItOnOtherNodes) {
  ASSERT_EQ(nodes_.link_file(0, "table", first_.path), "");
  first_.word(2) = 22;
  EXPECT_TRUE(nodes_.run(1, [&](gobelins::Connection& gob) {
    auto memory = gob.open("table").map();
    auto words = memory.as<std::uint64_t>();
    words[3 * 512] = 33;
    return words[2 * 512] == 22;
  }));
  EXPECT_EQ(first_.read(3), 33u);
}

TEST_F(FilesTest, WhatCannotBeLinkedIsRefusedWithTheReason) {
  EXPECT_NE(nodes_.link_file(0, "none", "/mnt/none").find("there is none on this node"),
            std::string::npos);
  EXPECT_NE(nodes_.link_file(0, "folder", "/mnt").find("Is a directory"), std::string::npos);
  EXPECT_NE(nodes_.link_file(0, "device", "/dev/null").find("no regular file"), std::string::npos);
  ASSERT_EQ(::symlink(first_.path.c_str(), "/mnt/link"), 0);
  EXPECT_NE(nodes_.link_file(0, "link", "/mnt/link").find("symbolic link"), std::string::npos);
  ::unlink("/mnt/link");
  attach();
  EXPECT_NE(nodes_.link_file(0, "table", first_.path).find("already"), std::string::npos);
  EXPECT_NE(nodes_.link_file(1, "other", first_.path).find("linked already"), std::string::npos);
  File small("small");
  small.make(4096);
  ASSERT_EQ(nodes_.detach(1, "table"), "");
  EXPECT_NE(nodes_.link_file(1, "table", small.path).find("it has 4096 bytes"), std::string::npos);
}

}  // namespace
}  // namespace gob
