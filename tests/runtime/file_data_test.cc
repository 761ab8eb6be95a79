// FileData over real shards and disks: what one node writes all read, the home's file changes only
// by write-back, and what crashes, small budgets and the kernel's cache make of it.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <future>
#include <mutex>
#include <optional>
#include <random>
#include <thread>
#include <tuple>

#include "tests/runtime/file_cluster.h"

namespace gob::test {
namespace {

constexpr std::uint64_t kMiB = 1u << 20;
constexpr unsigned kHome = FileCluster::kHome;

std::string text_of(std::size_t length, unsigned seed) {
  std::mt19937 random(seed);
  std::string text(length, '\0');
  for (char& c : text) c = static_cast<char>('a' + random() % 26);
  return text;
}

class FileDataTest : public ::testing::TestWithParam<unsigned> {
 protected:
  [[nodiscard]] FileCluster::Options options() const {
    FileCluster::Options options;
    options.shards = GetParam();
    return options;
  }
};

INSTANTIATE_TEST_SUITE_P(Shards, FileDataTest, ::testing::Values(1u, 3u));

TEST_P(FileDataTest, AFileIsReadOnceFromDiskThenFromTheMemoryOfTheNodes) {
  FileCluster cluster(options(), kMiB);
  const std::string text = text_of(kMiB, 1);
  cluster.put_on_disk(0, text);
  EXPECT_EQ(*cluster.read(1, 0, kMiB), text);
  cluster.put_on_disk(0, std::string(kMiB, '?'));  // behind the cluster's back
  EXPECT_EQ(*cluster.read(2, 0, kMiB), text);
  EXPECT_EQ(*cluster.read(kHome, 1000, 5000), text.substr(1000, 5000));
}

TEST_P(FileDataTest, WhatIsWrittenAnywhereIsReadEverywhere) {
  FileCluster cluster(options(), kMiB);
  const std::string text = text_of(300'000, 2);
  ASSERT_TRUE(cluster.write(1, 12'345, text));
  for (unsigned node : {0u, 1u, 2u}) EXPECT_EQ(*cluster.read(node, 12'345, text.size()), text);
  ASSERT_TRUE(cluster.write(2, 20'000, "over"));
  std::string expected = text;
  expected.replace(20'000 - 12'345, 4, "over");
  for (unsigned node : {0u, 1u, 2u}) EXPECT_EQ(*cluster.read(node, 12'345, text.size()), expected);
}

TEST_P(FileDataTest, TheFileChangesOnlyByWriteBack) {
  FileCluster cluster(options(), kMiB);
  const std::string text = text_of(400'000, 3);
  ASSERT_TRUE(cluster.write(1, 0, text));
  EXPECT_EQ(cluster.on_disk(0, text.size()), std::string(text.size(), '\0'));
  ASSERT_TRUE(cluster.write_back());
  EXPECT_EQ(cluster.on_disk(0, text.size()), text);
  // A range of it.
  ASSERT_TRUE(cluster.write(2, 8192, "one"));
  ASSERT_TRUE(cluster.write(2, 16'384, "two"));
  ASSERT_TRUE(cluster.write_back({8192, 4096}));
  EXPECT_EQ(cluster.on_disk(8192, 3), "one");
  EXPECT_EQ(cluster.on_disk(16'384, 3), text.substr(16'384, 3));
}

TEST_P(FileDataTest, TimeBringsWrittenPagesToTheFile) {
  FileCluster::Options often = options();
  often.write_back_ms = 20;
  std::promise<void> written;
  std::once_flag first;
  FileCluster cluster(often, kMiB);
  cluster.files(kHome).on_written([&](ContainerId) {
    std::call_once(first, [&] { written.set_value(); });
  });
  ASSERT_TRUE(cluster.write(1, 4096, "kept"));
  ASSERT_EQ(written.get_future().wait_for(std::chrono::seconds(20)), std::future_status::ready);
  EXPECT_EQ(cluster.on_disk(4096, 4), "kept");
}

TEST_P(FileDataTest, WriteBackStopsAtTheSizeOfTheFile) {
  FileCluster cluster(options(), 5000);
  ASSERT_TRUE(cluster.write(1, 0, std::string(8192, 'x')));
  ASSERT_TRUE(cluster.write_back());
  EXPECT_EQ(::lseek(cluster.disk(), 0, SEEK_END), 5000);
}

TEST_P(FileDataTest, DiscardedPagesAreAgainWhatTheFileHas) {
  FileCluster cluster(options(), 4 * kMiB);
  ASSERT_TRUE(cluster.write(1, 0, std::string(4 * kMiB, 'w')));
  ASSERT_TRUE(cluster.discard({4096, 8192}));
  EXPECT_EQ(*cluster.read(2, 0, 16'384),
            std::string(4096, 'w') + std::string(8192, '\0') + std::string(4096, 'w'));
  ASSERT_TRUE(cluster.discard({100, FileRange::kToEnd}));
  EXPECT_EQ(*cluster.read(1, 0, 4096), std::string(4096, 'w'));
  EXPECT_EQ(*cluster.read(1, 4096, 4 * kMiB - 4096), std::string(4 * kMiB - 4096, '\0'));
  ASSERT_TRUE(cluster.write_back());
  EXPECT_EQ(cluster.on_disk(4096, 4096), std::string(4096, '\0'));
}

TEST_P(FileDataTest, AFullDiskIsToldToWhoeverWritesBack) {
  FileCluster cluster(options(), kMiB);
  cluster.bind(UniqueFd(::open("/dev/full", O_RDWR | O_CLOEXEC)), kMiB);
  ASSERT_TRUE(cluster.write(1, 0, "too much"));
  const Status status = cluster.write_back();
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().errno_value, ENOSPC);
  EXPECT_EQ(*cluster.read(2, 0, 8), "too much");  // and nothing is forgotten
}

TEST_P(FileDataTest, AFileThatCannotBeReadIsAnError) {
  FileCluster cluster(options(), kMiB);
  cluster.bind(UniqueFd(::open("/dev/null", O_WRONLY | O_CLOEXEC)), kMiB);
  const auto result = cluster.read(1, 0, 4096);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().errno_value, EIO);
}

TEST_P(FileDataTest, BytesBeyondTheLargestSizeAreRefused) {
  FileCluster cluster(options(), kMiB);
  EXPECT_EQ(cluster.read(1, std::uint64_t{1} << 40, 1).error().errno_value, EFBIG);
  EXPECT_FALSE(cluster.write(1, ~std::uint64_t{0} - 10, "over the edge"));
}

TEST_P(FileDataTest, AReaderThatDiesLosesNothing) {
  FileCluster cluster(options(), 2 * kMiB);
  const std::string text = text_of(2 * kMiB, 4);
  cluster.put_on_disk(0, text);
  EXPECT_EQ(*cluster.read(1, 0, 2 * kMiB), text);
  ASSERT_TRUE(cluster.write(2, kMiB, "written"));
  EXPECT_EQ(*cluster.read(1, kMiB, 7), "written");
  cluster.kill(1);
  std::string expected = text;
  expected.replace(kMiB, 7, "written");
  EXPECT_EQ(*cluster.read(2, 0, 2 * kMiB), expected);
  EXPECT_EQ(*cluster.read(kHome, 0, 2 * kMiB), expected);
}

TEST_P(FileDataTest, AHomeThatDiesAndComesBackFindsWhatOthersKept) {
  FileCluster cluster(options(), 2 * kMiB);
  const std::string text = text_of(2 * kMiB, 5);
  cluster.put_on_disk(0, text);
  EXPECT_EQ(*cluster.read(1, 0, 65'536), text.substr(0, 65'536));
  ASSERT_TRUE(cluster.write(2, 4096, "synced"));
  ASSERT_TRUE(cluster.write_back());
  ASSERT_TRUE(cluster.write(2, 8192, "dirty"));
  cluster.kill(kHome);
  EXPECT_EQ(cluster.on_disk(4096, 6), "synced");
  // What is in memory is served, what is on the disk alone is not.
  EXPECT_EQ(*cluster.read(1, 8192, 5), "dirty");
  EXPECT_EQ(*cluster.read(2, 0, 4096), text.substr(0, 4096));
  const auto away = cluster.read(1, kMiB, 4096);
  ASSERT_FALSE(away);
  EXPECT_EQ(away.error().errno_value, EIO);
  ASSERT_TRUE(cluster.write(1, 8192, "newer"));
  cluster.restart(kHome);
  EXPECT_EQ(*cluster.read(1, kMiB, 4096), text.substr(kMiB, 4096));
  EXPECT_EQ(*cluster.read(kHome, 8192, 5), "newer");
  ASSERT_TRUE(cluster.write_back());
  EXPECT_EQ(cluster.on_disk(8192, 5), "newer");
}

TEST_P(FileDataTest, AWriterThatDiesTakesItsPagesAndNoOldBytesComeBack) {
  FileCluster cluster(options(), kMiB);
  cluster.put_on_disk(0, std::string(kMiB, 'o'));
  ASSERT_TRUE(cluster.write(1, 0, std::string(4096, 'n')));
  EXPECT_EQ(*cluster.read(2, 0, 1), "n");
  ASSERT_TRUE(cluster.write(1, 0, "m"));  // takes the reader's copy away
  cluster.kill(1);
  const auto gone = cluster.read(2, 0, 1);
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().errno_value, EIO);
  EXPECT_EQ(*cluster.read(2, 4096, 1), "o");
  // A truncation ends that.
  ASSERT_TRUE(cluster.discard({0, FileRange::kToEnd}));
  EXPECT_EQ(*cluster.read(2, 0, 1), "o");
}

TEST_P(FileDataTest, AFileTenTimesTheBudgetLeavesMemoryAlone) {
  FileCluster::Options small = options();
  small.budget_pages = 768;
  FileCluster cluster(small, 30 * kMiB);
  const std::string text = text_of(kMiB, 6);
  for (unsigned i = 0; i < 30; ++i) cluster.put_on_disk(i * kMiB, text);
  // Pages of memory on node 1, in every shard.
  const auto memory_pages = [&] {
    std::uint64_t pages = 0;
    cluster.on_shards(1, [&](Shard& shard) {
      const ShardSnapshot snapshot = shard.snapshot();
      const ContainerSnapshot& memory = snapshot.containers.at(FileCluster::kMemory);
      pages += memory.readable + memory.writable;
      EXPECT_LE(snapshot.resident_frames, snapshot.budget_frames);
    });
    return pages;
  };
  unsigned index = 0;
  cluster.on_shards(1, [&](Shard& shard) {
    for (std::uint64_t i = 0; i < 3; ++i)
      shard.feed(event::Touch{
          {FileCluster::kMemory, index + i * GetParam(), 0xffff'ffff}, Access::kWrite, 0});
    ++index;
  });
  const std::uint64_t expected = 96 * GetParam();
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (memory_pages() != expected && std::chrono::steady_clock::now() < give_up)
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  ASSERT_EQ(memory_pages(), expected);
  for (unsigned i = 0; i < 30; ++i) ASSERT_EQ(*cluster.read(1, i * kMiB, kMiB), text) << i;
  EXPECT_EQ(memory_pages(), expected);
}

TEST_P(FileDataTest, AFileTenTimesTheBudgetCanBeWritten) {
  FileCluster::Options small = options();
  small.budget_pages = 384;
  FileCluster cluster(small, 15 * kMiB);
  const std::string text = text_of(kMiB, 7);
  for (unsigned i = 0; i < 15; ++i) {
    const Status written = cluster.write(1, i * kMiB, text);
    ASSERT_TRUE(written) << written.error().message();
  }
  ASSERT_TRUE(cluster.write_back());
  for (unsigned i = 0; i < 15; ++i) EXPECT_EQ(cluster.on_disk(i * kMiB, kMiB), text) << i;
}

// Every node writes and reads at random; each byte range belongs to one writer at a time, so that a
// model knows what is right.
TEST_P(FileDataTest, RandomReadsAndWritesAgreeWithAModel) {
  FileCluster::Options small = options();
  small.budget_pages = 192;
  small.write_back_ms = 10;
  FileCluster cluster(small, kMiB);
  constexpr std::uint64_t kRegions = 16;
  constexpr std::uint64_t kRegion = kMiB / kRegions;
  std::vector<std::string> model(kRegions, std::string(kRegion, '\0'));
  std::vector<std::mutex> locks(kRegions);
  std::atomic<bool> wrong = false;
  std::vector<std::thread> threads;
  for (unsigned node = 0; node < 3; ++node) {
    threads.emplace_back([&, node] {
      std::mt19937 random(1000 * GetParam() + node);
      for (unsigned i = 0; i < 400 && !wrong; ++i) {
        const std::uint64_t region = random() % kRegions;
        const std::uint64_t at = random() % (kRegion - 1);
        const std::uint64_t length = 1 + random() % std::min<std::uint64_t>(kRegion - at, 20'000);
        const std::lock_guard lock(locks[region]);
        if (random() % 2 == 0) {
          const std::string text = text_of(length, static_cast<unsigned>(random()));
          if (!cluster.write(node, region * kRegion + at, text)) wrong = true;
          model[region].replace(at, length, text);
        } else {
          const auto got = cluster.read(node, region * kRegion + at, length);
          if (!got || *got != model[region].substr(at, length)) wrong = true;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(wrong);
  ASSERT_TRUE(cluster.write_back());
  for (std::uint64_t region = 0; region < kRegions; ++region)
    EXPECT_EQ(cluster.on_disk(region * kRegion, kRegion), model[region]) << region;
}

// --- the kernel's cache
class FakeKernel final : public KernelCache {
 public:
  void drop(ContainerId, PageIndex, std::uint64_t pages, std::function<void()> done) override {
    std::unique_lock lock(mutex_);
    dropped_ += pages;
    changed_.notify_all();
    if (!holding_) {
      lock.unlock();
      return done();
    }
    waiting_.push_back(std::move(done));
  }
  void hold() {
    const std::lock_guard lock(mutex_);
    holding_ = true;
  }
  void release() {
    std::unique_lock lock(mutex_);
    holding_ = false;
    const auto waiting = std::move(waiting_);
    waiting_.clear();
    lock.unlock();
    for (const auto& done : waiting) done();
  }
  bool wait_for_drops(std::uint64_t pages) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), [&] { return dropped_ >= pages; });
  }
  std::uint64_t dropped() {
    const std::lock_guard lock(mutex_);
    return dropped_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool holding_ = false;
  std::uint64_t dropped_ = 0;
  std::vector<std::function<void()>> waiting_;
};

class KernelCacheTest : public FileDataTest {
 protected:
  KernelCacheTest() : cluster(options(), kMiB) {
    cluster.files(1).set_kernel_cache(&kernel);
    cluster.on_shards(1, [](Shard&) {});  // it is known now
  }
  ~KernelCacheTest() override {
    kernel.release();
    cluster.files(1).set_kernel_cache(nullptr);
    cluster.on_shards(1, [](Shard&) {});
  }
  std::future<Status> write_later(unsigned node, std::uint64_t offset, const std::string& text) {
    return std::async(std::launch::async,
                      [this, node, offset, text] { return cluster.write(node, offset, text); });
  }
  FakeKernel kernel;
  FileCluster cluster;
};

INSTANTIATE_TEST_SUITE_P(Shards, KernelCacheTest, ::testing::Values(1u, 3u));

TEST_P(KernelCacheTest, NoOtherNodeWritesWhileTheKernelHasThePage) {
  ASSERT_TRUE(cluster.read(1, 0, 4096, Caching::kKernel));
  kernel.hold();
  auto write = write_later(2, 0, "new");
  ASSERT_TRUE(kernel.wait_for_drops(1));
  EXPECT_EQ(write.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  kernel.release();
  EXPECT_TRUE(write.get());
  EXPECT_EQ(*cluster.read(1, 0, 3), "new");
}

TEST_P(KernelCacheTest, AReadThatComesMeanwhileSaysThatTheKernelHasNone) {
  ASSERT_TRUE(cluster.read(1, 0, 4096, Caching::kKernel));
  kernel.hold();
  auto write = write_later(2, 0, "new");
  ASSERT_TRUE(kernel.wait_for_drops(1));
  // The notification waits for this read's page; the read waits for the other node's write.
  EXPECT_EQ(*cluster.read(1, 0, 3, Caching::kKernel), "new");
  EXPECT_TRUE(write.get());
}

TEST_P(KernelCacheTest, PagesReadForTheProgramAloneAreNotTheKernels) {
  ASSERT_TRUE(cluster.read(1, 0, 65'536, Caching::kNone));
  ASSERT_TRUE(cluster.write(2, 0, std::string(65'536, 'x')));
  EXPECT_EQ(kernel.dropped(), 0u);
}

TEST_P(KernelCacheTest, AWriteThatPassesTheKernelByDropsItsPageFirst) {
  ASSERT_TRUE(cluster.read(1, 0, 4096, Caching::kKernel));
  kernel.hold();
  auto write = write_later(1, 10, "direct");
  ASSERT_TRUE(kernel.wait_for_drops(1));
  EXPECT_EQ(write.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  kernel.release();
  EXPECT_TRUE(write.get());
}

TEST_P(KernelCacheTest, PagesThatLeaveForWantOfFramesLeaveTheKernelToo) {
  ASSERT_TRUE(cluster.read(1, 0, kMiB, Caching::kKernel));
  // Pages that were just granted stay for their turn: asked again.
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (kernel.dropped() < kMiB / kPageSize && std::chrono::steady_clock::now() < give_up) {
    cluster.on_shards(1, [](Shard& shard) { shard.flush_container(FileCluster::kFile); });
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_GE(kernel.dropped(), kMiB / kPageSize);
}

// A kernel that serves two pages from its cache until it is told to forget them; what is being read
// is locked, and a notification waits for that, as the real one does.
class CachingKernel final : public KernelCache {
 public:
  static constexpr std::uint64_t kFirst = 255;  // the next one is of another stripe

  void drop(ContainerId, PageIndex first, std::uint64_t pages,
            std::function<void()> done) override {
    std::unique_lock lock(mutex_);
    if (reading_) {
      waiting_.emplace_back(first.value(), pages, std::move(done));
      return;
    }
    forget(first.value(), pages);
    lock.unlock();
    done();
  }
  // The first words of the pages, or nothing if they cannot be read.
  std::optional<std::array<std::uint64_t, 2>> read(FileData& files) {
    {
      const std::lock_guard lock(mutex_);
      if (cached_[0] && cached_[1]) return std::array{*cached_[0], *cached_[1]};
      reading_ = true;
    }
    std::vector<std::byte> bytes(2 * kPageSize);
    std::promise<bool> ended;
    files.read(FileCluster::kFile, kFirst * kPageSize, bytes, Caching::kKernel, ReadAhead::kByOrder,
               [&](const Status& status) {
                 if (status) fill(bytes);
                 ended.set_value(status.ok());
               });
    if (!ended.get_future().get()) return std::nullopt;
    std::array<std::uint64_t, 2> values{};
    for (std::size_t i = 0; i < 2; ++i)
      std::memcpy(&values[i], bytes.data() + i * kPageSize, sizeof values[i]);
    return values;
  }

 private:
  void forget(std::uint64_t first, std::uint64_t pages) {
    for (std::size_t i = 0; i < 2; ++i)
      if (kFirst + i >= first && kFirst + i < first + pages) cached_[i].reset();
  }
  void fill(const std::vector<std::byte>& bytes) {
    std::unique_lock lock(mutex_);
    for (std::size_t i = 0; i < 2; ++i) {
      std::uint64_t value = 0;
      std::memcpy(&value, bytes.data() + i * kPageSize, sizeof value);
      cached_[i] = value;
    }
    reading_ = false;
    const auto waiting = std::move(waiting_);
    waiting_.clear();
    for (const auto& [first, pages, done] : waiting) forget(first, pages);
    lock.unlock();
    for (const auto& [first, pages, done] : waiting) done();
  }

  std::mutex mutex_;
  bool reading_ = false;
  std::array<std::optional<std::uint64_t>, 2> cached_;
  std::vector<std::tuple<std::uint64_t, std::uint64_t, std::function<void()>>> waiting_;
};

// Readers on node 1 must never see less than what a writer elsewhere had finished before they
// began.
TEST_P(FileDataTest, ReadersThroughTheKernelsCacheNeverSeeOldBytes) {
  CachingKernel kernel;
  FileCluster cluster(options(), 2 * kMiB);
  cluster.files(1).set_kernel_cache(&kernel);
  cluster.on_shards(1, [](Shard&) {});
  std::atomic<std::uint64_t> finished = 0;
  std::atomic<bool> stop = false;
  std::thread writer([&] {
    for (std::uint64_t value = 1; value <= 300; ++value) {
      std::string bytes(2 * kPageSize, '\0');
      for (std::size_t at = 0; at < bytes.size(); at += kPageSize)
        std::memcpy(bytes.data() + at, &value, sizeof value);
      if (!cluster.write(value % 2 == 0 ? 2 : 0, CachingKernel::kFirst * kPageSize, bytes)) break;
      finished = value;
    }
    stop = true;
  });
  unsigned wrong = 0;
  while (!stop) {
    const std::uint64_t before = finished;
    const auto values = kernel.read(cluster.files(1));
    if (!values || (*values)[0] < before || (*values)[1] < before) ++wrong;
  }
  writer.join();
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(finished, 300u);
  cluster.files(1).set_kernel_cache(nullptr);
  cluster.on_shards(1, [](Shard&) {});
}

}  // namespace
}  // namespace gob::test
