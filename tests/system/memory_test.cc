// Containers larger than a node: injection into the others, then swap; budgets that are exhausted.
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/system/nodes.h"

namespace gob {
namespace {

constexpr std::size_t kWordsOfPage = 512;
constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

DaemonConfig budget(std::uint64_t bytes) {
  DaemonConfig config;
  config.cluster = "memory";
  config.budget_bytes = bytes;
  return config;
}

std::uint64_t value_of(std::size_t word) { return word * 0x9e3779b97f4a7c15ull + 1; }

bool fill(gobelins::Connection& gob, std::uint64_t bytes) {
  gob.create("large", bytes);
  auto memory = gob.open("large").map();
  auto words = memory.as<std::uint64_t>();
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = value_of(i);
  return true;
}

bool verify(gobelins::Connection& gob) {
  auto memory = gob.open("large", gobelins::Access::kRead).map();
  auto words = memory.as<std::uint64_t>();
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i] == value_of(i)) continue;
    std::fprintf(stderr, "page %zu word %zu is wrong\n", i / kWordsOfPage, i % kWordsOfPage);
    return false;
  }
  return true;
}

TEST(Memory, LargerThanANodeLivesInTheOthers) {
  Nodes nodes(3, budget(16 * kMiB));
  ASSERT_TRUE(nodes.run(0, [](gobelins::Connection& gob) { return fill(gob, 28 * kMiB); }));
  EXPECT_TRUE(nodes.run(0, verify));
  EXPECT_TRUE(nodes.run(2, verify));
}

TEST(Memory, LargerThanAllNodesLivesInSwap) {
  const std::string swap =
      std::filesystem::temp_directory_path() / ("gob-swap-" + std::to_string(::getpid()));
  DaemonConfig config = budget(8 * kMiB);
  config.swap_dir = swap;
  config.swap_bytes = 256 * kMiB;
  config.page_timeout_ms = 20'000;
  {
    Nodes nodes(2, config);
    ASSERT_TRUE(nodes.run(0, [](gobelins::Connection& gob) { return fill(gob, 40 * kMiB); }));
    EXPECT_TRUE(nodes.run(0, verify));
    EXPECT_TRUE(nodes.run(1, verify));
  }
  std::filesystem::remove_all(swap);
}

TEST(Memory, ExhaustedEverywhereIsAnErrorAndNoHarmToOthers) {
  DaemonConfig config = budget(4 * kMiB);
  config.page_timeout_ms = 3000;  // until the access is refused
  Nodes nodes(2, config);
  ASSERT_TRUE(nodes.run(1, [](gobelins::Connection& gob) {
    gob.create("small", 4096);
    gob.open("small").map().as<std::uint64_t>()[0] = 42;
    return true;
  }));
  EXPECT_TRUE(nodes.run(0, [](gobelins::Connection& gob) {
    gob.create("too-large", 32 * kMiB);
    auto memory = gob.open("too-large").map();
    auto bytes = memory.as<char>();
    return gets_sigbus([&] {
      for (std::size_t at = 0; at < bytes.size(); at += 4096) bytes[at] = 1;
    });
  }));
  EXPECT_NE(nodes.log_of(0).find("access refused"), std::string::npos);
  ASSERT_TRUE(nodes.run(0, [](gobelins::Connection& gob) {
    gob.remove("too-large");
    return true;
  }));
  EXPECT_TRUE(nodes.run(0, [](gobelins::Connection& gob) {
    return gob.open("small").map().as<std::uint64_t>()[0] == 42;
  }));
}

TEST(Memory, IsHandedOverWhenANodeLeaves) {
  Nodes nodes(3, budget(32 * kMiB));
  ASSERT_TRUE(nodes.run(1, [](gobelins::Connection& gob) { return fill(gob, 12 * kMiB); }));
  EXPECT_EQ(nodes.stop_node(1), 0);
  EXPECT_NE(nodes.log_of(1).find("left the cluster in good order"), std::string::npos);
  EXPECT_TRUE(nodes.run(0, verify));
  EXPECT_TRUE(nodes.run(2, verify));
}

}  // namespace
}  // namespace gob
