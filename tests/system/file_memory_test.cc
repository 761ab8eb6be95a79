// One budget for files and memory: a node that reads a file much larger than its memory stays in its
// budget, and the file pushes nothing else out.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <thread>
#include <vector>

#include "libgob/base/unique_fd.h"
#include "tests/system/file_nodes.h"

namespace gob {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kBudget = 8 * kMiB;
constexpr std::uint64_t kFileBytes = 10 * kBudget;
constexpr std::uint64_t kKeptBytes = 3 * kMiB;
constexpr unsigned kReader = 1;

std::uint64_t value_of(std::uint64_t word) { return word * 0x9e3779b97f4a7c15ull + 1; }

void write_large(const std::string& path) {
  std::ofstream file(path, std::ios::binary);
  std::vector<std::uint64_t> words(kMiB / sizeof(std::uint64_t));
  for (std::uint64_t first = 0; first < kFileBytes / sizeof(std::uint64_t); first += words.size()) {
    for (std::uint64_t i = 0; i < words.size(); ++i) words[i] = value_of(first + i);
    file.write(reinterpret_cast<const char*>(words.data()), kMiB);
  }
}

// In order, in parts of `bytes`. False on wrong bytes.
bool reads_right(int fd, std::uint64_t bytes) {
  std::vector<std::uint64_t> words(bytes / sizeof(std::uint64_t));
  for (std::uint64_t at = 0; at < kFileBytes; at += bytes) {
    if (::pread(fd, words.data(), bytes, static_cast<off_t>(at)) != static_cast<ssize_t>(bytes))
      return false;
    for (std::uint64_t i = 0; i < words.size(); ++i)
      if (words[i] != value_of(at / sizeof(std::uint64_t) + i)) return false;
  }
  return true;
}

std::uint64_t pages_here(const Nodes& nodes, const std::string& container) {
  const auto stat = nodes.stat(kReader);
  if (!stat) return 0;
  for (const control::ContainerStat& each : stat->containers())
    if (each.container().name() == container)
      return each.pages().readable() + each.pages().writable();
  return 0;
}

TEST(FileMemory, AFileOfTenBudgetsStaysInTheBudgetAndPushesNothingElseOut) {
  Nodes nodes(2, file_settings(), GOBD, [](unsigned node, DaemonConfig& settings) {
    if (node == kReader) settings.budget_bytes = kBudget;
  });
  const SharedFolder folder;
  folder.attach(nodes);
  write_large(folder.tree() + "/large");
  ASSERT_TRUE(nodes.run(kReader, [](gobelins::Connection& gob) {
    gob.create("kept", kKeptBytes);
    auto memory = gob.open("kept").map();
    auto words = memory.as<std::uint64_t>();
    for (std::size_t i = 0; i < words.size(); ++i) words[i] = value_of(i);
    return true;
  }));
  ASSERT_EQ(pages_here(nodes, "kept"), kKeptBytes / kPageSize);

  // Looked at all the while.
  std::atomic<bool> over = false;
  std::uint64_t looks = 0;
  std::uint64_t most = 0;
  std::thread watcher([&] {
    while (!over) {
      const auto stat = nodes.stat(kReader);
      if (!stat) continue;
      ++looks;
      most = std::max(most, stat->node().resident_frames());
    }
  });
  const UniqueFd file(::open((seen_at(nodes, kReader) + "/large").c_str(), O_RDONLY));
  EXPECT_TRUE(file);
  for (int times = 0; times < 2; ++times) EXPECT_TRUE(reads_right(file.get(), 64 * kPageSize));
  over = true;
  watcher.join();
  EXPECT_GT(looks, 0u);
  EXPECT_LE(most, kBudget / kPageSize);
  EXPECT_GT(most, kBudget / kPageSize / 2) << "the file hardly was in this node's memory";

  EXPECT_EQ(pages_here(nodes, "kept"), kKeptBytes / kPageSize);
  EXPECT_TRUE(nodes.run(kReader, [](gobelins::Connection& gob) {
    auto memory = gob.open("kept").map();
    auto words = memory.as<std::uint64_t>();
    for (std::size_t i = 0; i < words.size(); ++i)
      if (words[i] != value_of(i)) return false;
    return true;
  }));
}

}  // namespace
}  // namespace gob
