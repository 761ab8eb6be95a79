// PageSet: runs of pages inside one stripe.
#include "libgob/base/page_set.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <utility>
#include <vector>

namespace gob {
namespace {

constexpr ContainerId kContainer{5};

PageSet set_of(std::uint64_t stripe, std::uint64_t mask) { return {kContainer, stripe, mask}; }

using OneRun = std::pair<std::uint64_t, unsigned>;
using RunList = std::vector<OneRun>;
RunList runs_of(PageSet set) {
  RunList runs;
  for_each_run(set,
               [&](PageIndex first, unsigned count) { runs.emplace_back(first.value(), count); });
  return runs;
}
std::vector<std::uint64_t> pages_of(PageSet set) {
  std::vector<std::uint64_t> pages;
  for_each_page(set, [&](PageId id) {
    EXPECT_EQ(id.container, kContainer);
    pages.push_back(id.page.value());
  });
  return pages;
}

TEST(PageSet, OfOnePageKnowsItsStripe) {
  const PageSet set = PageSet::of({kContainer, PageIndex{2 * kStripePages + 3}});
  EXPECT_EQ(set, set_of(2, 0b1000));
  EXPECT_EQ(set.size(), 1u);
  EXPECT_EQ(set.first_of_stripe(), PageIndex{2 * kStripePages});
  EXPECT_TRUE(set.contains(PageIndex{2 * kStripePages + 3}));
  EXPECT_FALSE(set.contains(PageIndex{2 * kStripePages + 4}));
  EXPECT_FALSE(set.contains(PageIndex{3})) << "the same place in another stripe";
}

TEST(PageSet, OfTheLastPageOfTheLargestContainer) {
  const PageIndex last{kMaxPages - 1};
  const PageSet set = PageSet::of({kContainer, last});
  EXPECT_TRUE(set.contains(last));
  EXPECT_EQ(pages_of(set), std::vector{kMaxPages - 1});
}

TEST(PageSet, EmptyHasNoPageAndNoRun) {
  EXPECT_TRUE(set_of(1, 0).empty());
  EXPECT_TRUE(pages_of(set_of(1, 0)).empty());
  EXPECT_TRUE(runs_of(set_of(1, 0)).empty());
}

TEST(PageSet, RunsAreMaximalAndAscending) {
  EXPECT_EQ(runs_of(set_of(0, 0b1)), (RunList{{0, 1}}));
  EXPECT_EQ(runs_of(set_of(0, 0b1101'0110)), (RunList{{1, 2}, {4, 1}, {6, 2}}));
  EXPECT_EQ(runs_of(set_of(3, ~std::uint64_t{0})), (RunList{{3 * kStripePages, 64}}));
}

TEST(PageSet, ARunMayEndAtTheEndOfTheStripe) {
  const std::uint64_t top = std::uint64_t{1} << 63;
  EXPECT_EQ(runs_of(set_of(0, top)), (RunList{{63, 1}}));
  EXPECT_EQ(runs_of(set_of(1, top | (top >> 1) | 1)), (RunList{{64, 1}, {126, 2}}));
}

TEST(PageSet, RankIsThePlaceAmongThePagesOfTheSet) {
  const PageSet set = set_of(1, (std::uint64_t{1} << 63) | 0b1010);
  EXPECT_EQ(set.rank(PageIndex{kStripePages + 1}), 0u);
  EXPECT_EQ(set.rank(PageIndex{kStripePages + 3}), 1u);
  EXPECT_EQ(set.rank(PageIndex{kStripePages + 63}), 2u);
}

TEST(PageSet, WithKeepsTheStripe) { EXPECT_EQ(set_of(7, 0b11).with(0b100), set_of(7, 0b100)); }

TEST(PageSet, RunsPagesAndRanksAgreeOnRandomMasks) {
  std::mt19937_64 random(20);
  for (int i = 0; i < 2000; ++i) {
    // Sparse, dense and mixed masks.
    std::uint64_t mask = random();
    if (i % 3 == 0) mask &= random() & random();
    if (i % 3 == 1) mask |= random() | random();
    const PageSet set = set_of(static_cast<std::uint64_t>(i), mask);
    const std::vector<std::uint64_t> pages = pages_of(set);
    ASSERT_EQ(pages.size(), set.size());
    std::vector<std::uint64_t> by_runs;
    std::uint64_t previous_end = 0;
    for (const auto& [first, count] : runs_of(set)) {
      if (!by_runs.empty()) {
        EXPECT_GT(first, previous_end) << "two runs that touch are one";
      }
      for (unsigned k = 0; k < count; ++k) by_runs.push_back(first + k);
      previous_end = first + count;
    }
    ASSERT_EQ(by_runs, pages);
    for (std::size_t k = 0; k < pages.size(); ++k) EXPECT_EQ(set.rank(PageIndex{pages[k]}), k);
  }
}

}  // namespace
}  // namespace gob
