#include "libgob/container/frame_pool.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "libgob/base/page_table.h"

namespace gob {
namespace {

std::vector<std::byte> pattern(unsigned pages, unsigned seed) {
  std::vector<std::byte> bytes(pages * kPageSize);
  for (std::size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<std::byte>(mix64(seed * 1000003 + i / 8) >> (i % 8 * 8));
  return bytes;
}

class FramePoolTest : public ::testing::Test {
 protected:
  static FramePool make(std::uint64_t pages) {
    auto pool = FramePool::create("test", pages);
    if (!pool) throw std::runtime_error(pool.error().message());
    return std::move(pool).value();
  }
  static PagePipe make_pipe() {
    auto pipe = PagePipe::create();
    if (!pipe) throw std::runtime_error(pipe.error().message());
    return std::move(pipe).value();
  }
};

TEST_F(FramePoolTest, StoredBytesAreLoadedAgain) {
  const FramePool pool = make(256);
  const auto bytes = pattern(64, 1);
  ASSERT_TRUE(pool.store(PageIndex{100}, 64, bytes.data()));
  std::vector<std::byte> back(64 * kPageSize);
  ASSERT_TRUE(pool.load(PageIndex{100}, 64, back.data()));
  EXPECT_EQ(back, bytes);
  EXPECT_EQ(pool.resident_count().value(), 64u);
  EXPECT_TRUE(pool.resident(PageIndex{163}));
  EXPECT_FALSE(pool.resident(PageIndex{164}));
  EXPECT_FALSE(pool.resident(PageIndex{99}));
}

TEST_F(FramePoolTest, ZerosReplaceOldBytes) {
  const FramePool pool = make(64);
  ASSERT_TRUE(pool.store(PageIndex{0}, 64, pattern(64, 2).data()));
  ASSERT_TRUE(pool.store_zero(PageIndex{0}, 63));
  std::vector<std::byte> back(64 * kPageSize);
  ASSERT_TRUE(pool.load(PageIndex{0}, 64, back.data()));
  const std::vector<std::byte> zeros(63 * kPageSize);
  EXPECT_EQ(0, std::memcmp(back.data(), zeros.data(), zeros.size()));
  EXPECT_NE(0, std::memcmp(back.data() + zeros.size(), zeros.data(), kPageSize));
}

TEST_F(FramePoolTest, TebibyteIsSparse) {
  const std::uint64_t pages = (std::uint64_t{1} << 40) / kPageSize;
  const FramePool pool = make(pages);
  EXPECT_EQ(pool.resident_count().value(), 0u);
  const auto bytes = pattern(1, 3);
  ASSERT_TRUE(pool.store(PageIndex{pages - 1}, 1, bytes.data()));
  ASSERT_TRUE(pool.store(PageIndex{0}, 1, bytes.data()));
  std::vector<std::byte> back(kPageSize);
  ASSERT_TRUE(pool.load(PageIndex{pages - 1}, 1, back.data()));
  EXPECT_EQ(back, bytes);
  EXPECT_EQ(pool.resident_count().value(), 2u);
}

TEST_F(FramePoolTest, ImpossibleSizesAreRefusedWithWords) {
  const auto none = FramePool::create("none", 0);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, ErrorCode::kInvalidArgument);
  const auto huge = FramePool::create("huge", ~std::uint64_t{0});
  ASSERT_FALSE(huge);
  EXPECT_NE(huge.error().message().find("huge"), std::string::npos);
}

// Whoever has no descriptor left is told so when it needs a frame, and not before.
TEST_F(FramePoolTest, NeedsADescriptorOnlyForFrames) {
  const FramePool pool = make(16);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit none = before;
  none.rlim_cur = 0;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  std::vector<std::byte> bytes(kPageSize, std::byte{7});
  const Status stored = pool.store(PageIndex{3}, 1, bytes.data());
  EXPECT_FALSE(pool.resident(PageIndex{3}));
  EXPECT_EQ(pool.resident_count().value(), 0U);
  EXPECT_TRUE(pool.punch(PageIndex{0}, 16));
  EXPECT_TRUE(pool.clear());
  EXPECT_TRUE(pool.load(PageIndex{3}, 1, bytes.data()));
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_FALSE(stored);
  EXPECT_EQ(stored.error().code, ErrorCode::kNoSpace);
  EXPECT_EQ(bytes[0], std::byte{0});
  bytes[0] = std::byte{9};
  EXPECT_TRUE(pool.store(PageIndex{3}, 1, bytes.data()));
  EXPECT_TRUE(pool.resident(PageIndex{3}));
}

TEST_F(FramePoolTest, HoldersOfTheDescriptorCannotResizeOrFreezeIt) {
  const FramePool pool = make(16);
  EXPECT_NE(0, ::ftruncate(*pool.fd(), 4096));
  EXPECT_EQ(errno, EPERM);
  EXPECT_NE(0, ::ftruncate(*pool.fd(), 1 << 20));
  EXPECT_NE(0, ::fcntl(*pool.fd(), F_ADD_SEALS, F_SEAL_WRITE));
  EXPECT_EQ(errno, EPERM);
}

TEST_F(FramePoolTest, PunchFreesAndUnmaps) {
  const FramePool pool = make(64);
  ASSERT_TRUE(pool.store(PageIndex{0}, 64, pattern(64, 4).data()));
  auto* seen = static_cast<unsigned char*>(
      ::mmap(nullptr, 64 * kPageSize, PROT_READ, MAP_SHARED, *pool.fd(), 0));
  ASSERT_NE(seen, MAP_FAILED);
  EXPECT_NE(0, seen[10 * kPageSize]);
  ASSERT_TRUE(pool.punch(PageIndex{10}, 3));
  EXPECT_EQ(pool.resident_count().value(), 61u);
  EXPECT_EQ(0, seen[10 * kPageSize]);
  ::munmap(seen, 64 * kPageSize);
}

TEST_F(FramePoolTest, TakeReturnsBytesAndFreesFrames) {
  const FramePool pool = make(256);
  PagePipe pipe = make_pipe();
  const auto bytes = pattern(64, 5);
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(pool.store(PageIndex{64}, 64, bytes.data()));
    std::vector<std::byte> out(64 * kPageSize);
    ASSERT_TRUE(pool.take(PageIndex{64}, 64, out.data(), pipe));
    EXPECT_EQ(out, bytes);
    EXPECT_EQ(pool.resident_count().value(), 0u);
  }
}

TEST_F(FramePoolTest, UnmapKeepsBytes) {
  const FramePool pool = make(64);
  PagePipe pipe = make_pipe();
  const auto bytes = pattern(5, 6);
  ASSERT_TRUE(pool.store(PageIndex{3}, 5, bytes.data()));
  ASSERT_TRUE(pool.unmap(PageIndex{3}, 5, pipe));
  std::vector<std::byte> out(5 * kPageSize);
  ASSERT_TRUE(pool.load(PageIndex{3}, 5, out.data()));
  EXPECT_EQ(out, bytes);
}

TEST_F(FramePoolTest, PipeOfAnySizeMovesWholeStripes) {
  const FramePool pool = make(64);
  PagePipe pipe = make_pipe();
  EXPECT_GE(pipe.capacity_pages(), 1u);
  const auto bytes = pattern(64, 7);
  ASSERT_TRUE(pool.store(PageIndex{0}, 64, bytes.data()));
  std::vector<std::byte> out(64 * kPageSize);
  // Pieces of 7 pages leave the pipe as a small one would.
  for (unsigned first = 0; first < 64; first += 7) {
    const unsigned count = std::min(7u, 64 - first);
    ASSERT_TRUE(pool.take(PageIndex{first}, count, out.data() + first * kPageSize, pipe));
  }
  EXPECT_EQ(out, bytes);
}

// The heart of a move: a program writes as fast as it can while its page is taken. Whatever it
// wrote without a new fault must be in the bytes; its next write must fault.
TEST_F(FramePoolTest, TakeLosesNoConcurrentWrite) {
  const FramePool pool = make(64);
  PagePipe pipe = make_pipe();
  const UniqueFd uffd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
  ASSERT_TRUE(uffd) << "userfaultfd: " << std::strerror(errno);
  uffdio_api api = {};
  api.api = UFFD_API;
  api.features = UFFD_FEATURE_MISSING_SHMEM;
  ASSERT_EQ(0, ::ioctl(uffd.get(), UFFDIO_API, &api)) << std::strerror(errno);
  constexpr unsigned kPages = 16;
  void* map = ::mmap(nullptr, kPages * kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED, *pool.fd(), 0);
  ASSERT_NE(map, MAP_FAILED);
  uffdio_register range = {};
  range.range = {reinterpret_cast<std::uintptr_t>(map), kPages * kPageSize};
  range.mode = UFFDIO_REGISTER_MODE_MISSING;
  ASSERT_EQ(0, ::ioctl(uffd.get(), UFFDIO_REGISTER, &range)) << std::strerror(errno);

  std::vector<std::byte> bytes(kPages * kPageSize);
  const auto answer = [&] {
    uffdio_copy copy = {};
    copy.dst = range.range.start;
    copy.src = reinterpret_cast<std::uintptr_t>(bytes.data());
    copy.len = bytes.size();
    ASSERT_EQ(0, ::ioctl(uffd.get(), UFFDIO_COPY, &copy)) << std::strerror(errno);
  };
  answer();

  std::atomic<bool> stop = false;
  std::array<std::atomic<std::uint64_t>, kPages> written{};
  std::thread writer([&] {
    std::uint64_t value = 0;
    while (!stop.load(std::memory_order_relaxed)) {
      ++value;
      for (unsigned page = 0; page < kPages; ++page) {
        auto* word = reinterpret_cast<std::atomic<std::uint64_t>*>(static_cast<std::byte*>(map) +
                                                                   page * kPageSize + 512);
        word->store(value, std::memory_order_relaxed);
        written[page].store(value, std::memory_order_release);
      }
    }
  });
  for (int round = 0; round < 300; ++round) {
    ASSERT_TRUE(pool.take(PageIndex{0}, kPages, bytes.data(), pipe));
    // The writer's next access faults: from then on it stands still.
    pollfd ready = {uffd.get(), POLLIN, 0};
    ASSERT_EQ(1, ::poll(&ready, 1, 10'000));
    uffd_msg fault;
    ASSERT_EQ(static_cast<ssize_t>(sizeof fault), ::read(uffd.get(), &fault, sizeof fault));
    for (unsigned page = 0; page < kPages; ++page) {
      std::uint64_t value = 0;
      std::memcpy(&value, bytes.data() + page * kPageSize + 512, sizeof value);
      ASSERT_EQ(value, written[page].load(std::memory_order_acquire)) << "page " << page;
    }
    if (round == 299) stop = true;
    answer();
  }
  writer.join();
  ::munmap(map, kPages * kPageSize);
}

TEST_F(FramePoolTest, ThreadsWorkOnDisjointStripes) {
  const FramePool pool = make(4 * kStripePages);
  std::vector<std::thread> shards;
  std::atomic<int> failures = 0;
  for (unsigned shard = 0; shard < 4; ++shard) {
    shards.emplace_back([&, shard] {
      PagePipe pipe = make_pipe();
      const PageIndex first{shard * kStripePages};
      const auto bytes = pattern(kStripePages, shard);
      std::vector<std::byte> out(bytes.size());
      for (int round = 0; round < 50; ++round) {
        const bool good = pool.store(first, kStripePages, bytes.data()).ok() &&
                          pool.take(first, kStripePages, out.data(), pipe).ok() && out == bytes;
        if (!good) ++failures;
      }
    });
  }
  for (std::thread& shard : shards) shard.join();
  EXPECT_EQ(failures, 0);
  EXPECT_EQ(pool.resident_count().value(), 0u);
}

}  // namespace
}  // namespace gob
