#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "gobbench/core_pair.h"
#include "gobbench/micro.h"
#include "gobbench/page_pattern.h"
#include "gobbench/raw_tcp.h"

namespace gob::bench {
namespace {

TEST(PagePattern, SumIsThatOfItsWords) {
  for (const std::size_t page : {std::size_t{0}, std::size_t{1}, std::size_t{65535}}) {
    std::uint64_t sum = 0;
    for (std::size_t word = 0; word < kPageWords; ++word) sum += pattern(page, word);
    EXPECT_EQ(sum, pattern_sum(page));
  }
}

TEST(PageOrder, ShuffledVisitsEveryPageOnce) {
  auto order = page_order(1000, true, 5);
  EXPECT_FALSE(std::is_sorted(order.begin(), order.end()));
  std::sort(order.begin(), order.end());
  EXPECT_EQ(order, page_order(1000, false, 5));
}

TEST(RawTcp, PingPongTimesEveryRound) {
  const Result<std::vector<std::uint64_t>> samples = tcp_ping_pong({}, 8, 4096, 100);
  ASSERT_TRUE(samples) << samples.error().message();
  EXPECT_EQ(samples->size(), 100u);
  EXPECT_GT(*std::min_element(samples->begin(), samples->end()), 0u);
}

TEST(RawTcp, StreamDeliversAnySize) {
  const Result<double> rate = tcp_stream({}, (1 << 20) + 17);
  ASSERT_TRUE(rate) << rate.error().message();
  EXPECT_GT(*rate, 0);
}

TEST(RawTcp, AHostThatIsNotHereIsAnError) {
  TcpPlaces places;
  places.server_host = "203.0.113.1";
  const Result<double> rate = tcp_stream(places, 1);
  ASSERT_FALSE(rate);
  EXPECT_THAT(rate.error().message(), ::testing::HasSubstr("203.0.113.1"));
}

TEST(CorePair, GrantsEveryKindOfAccess) {
  CorePair pair;
  for (std::uint64_t page = 0; page < 3 * kStripePages; page += 7) {
    const PageIndex index{page};
    pair.touch(1, index, Access::kWrite);
    EXPECT_TRUE(pair.has(1, index, Access::kWrite));
    pair.touch(0, index, Access::kRead);
    EXPECT_TRUE(pair.has(0, index, Access::kRead));
    EXPECT_FALSE(pair.has(1, index, Access::kWrite));
    pair.touch(0, index, Access::kWrite);
    EXPECT_TRUE(pair.has(0, index, Access::kWrite));
    EXPECT_FALSE(pair.has(1, index, Access::kRead));
  }
}

TEST(Micro, MeasuresEveryPart) {
  MicroOptions options;
  options.min_seconds = 0.001;
  const Result<Outcome> outcome = run_micro(options);
  ASSERT_TRUE(outcome) << outcome.error().message();
  const std::string text = outcome->table.text();
  for (const char* part :
       {"core: first touch", "core: read miss", "core: write miss", "core: upgrade",
        "codec: encode", "codec: decode", "directory: insert", "directory: find", "frames: store",
        "frames: load", "frames: take", "frames: punch", "memory of a directory entry",
        "memory of a resident page"})
    EXPECT_THAT(text, ::testing::HasSubstr(part));
  for (const Target& target : outcome->targets) EXPECT_TRUE(target.met()) << target.text();
}

TEST(Micro, AFilterThatMatchesNothingIsAnError) {
  MicroOptions options;
  options.filter = "no such benchmark";
  const Result<Outcome> outcome = run_micro(options);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace gob::bench
