#include "gobbench/distribution.h"

#include <gtest/gtest.h>

#include <vector>

#include "gobbench/figure_results.h"

namespace gob::bench {
namespace {

using Lines = std::vector<std::size_t>;

Lines lines_of(const Distribution& distribution, unsigned worker, std::size_t from = 0,
               std::size_t to = ~std::size_t{0}) {
  Lines lines;
  distribution.for_each_line(worker, from, to, [&](std::size_t line) { lines.push_back(line); });
  return lines;
}

TEST(Distribution, DealsBlocksRound) {
  const Distribution distribution(11, 2, 3);
  EXPECT_EQ(lines_of(distribution, 0), (Lines{0, 1, 2, 6, 7, 8}));
  EXPECT_EQ(lines_of(distribution, 1), (Lines{3, 4, 5, 9, 10}));
}

TEST(Distribution, CyclicIsBlocksOfOne) {
  EXPECT_EQ(lines_of(Distribution::cyclic(7, 3), 1), (Lines{1, 4}));
}

TEST(Distribution, StartsAndEndsInsideBlocks) {
  const Distribution distribution(12, 2, 4);
  EXPECT_EQ(lines_of(distribution, 0, 2, 10), (Lines{2, 3, 8, 9}));
  EXPECT_EQ(lines_of(distribution, 1, 5, 6), (Lines{5}));
  EXPECT_EQ(lines_of(distribution, 1, 8, 12), (Lines{}));
}

TEST(Distribution, CoversEveryLineOnceWhateverItsShape) {
  for (std::size_t lines : {1u, 2u, 63u, 64u, 65u})
    for (unsigned workers : {1u, 2u, 3u, 6u, 70u})
      for (std::size_t block : {1u, 2u, 7u, 64u, 100u}) {
        const Distribution distribution(lines, workers, block);
        std::vector<unsigned> seen(lines);
        for (unsigned worker = 0; worker < workers; ++worker)
          distribution.for_each_line(worker, 0, lines, [&](std::size_t line) {
            ++seen[line];
            EXPECT_EQ(distribution.owner(line), worker);
          });
        EXPECT_EQ(seen, std::vector<unsigned>(lines, 1))
            << lines << " lines, " << workers << " workers, block " << block;
      }
}

TEST(BlockLines, AreWholePagesSoThatNoPageHasTwoWriters) {
  for (std::size_t size : {64u, 128u, 256u, 512u, 1024u, 2048u})
    for (unsigned workers = 1; workers <= 6; ++workers) {
      const std::size_t block = block_lines(size, size, workers);
      EXPECT_EQ(block * size * sizeof(double) % kPageSize, 0u) << size << ", " << workers;
    }
}

TEST(BlockLines, GiveEveryWorkerOfATwoNodeClusterHalf) {
  EXPECT_EQ(block_lines(64, 64, 2), 32u);
  EXPECT_EQ(block_lines(512, 512, 2), 256u);
  EXPECT_EQ(block_lines(2048, 2048, 2), 256u);  // 8 blocks go round
  EXPECT_EQ(block_lines(2048, 2048, 6), 171u);  // 12 blocks, two for each
}

}  // namespace
}  // namespace gob::bench
