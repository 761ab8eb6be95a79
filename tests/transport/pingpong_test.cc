// The yardstick that benchmarks compare with.
#include "libgob/transport/pingpong.h"

#include <gtest/gtest.h>

namespace gob {
namespace {

TEST(RawTcp, MeasuresEveryRound) {
  const auto times = measure_raw_tcp(64, 4096, 200);
  ASSERT_TRUE(times.ok()) << times.error().message();
  ASSERT_EQ(times->size(), 200u);
  for (const std::uint64_t ns : *times) EXPECT_GT(ns, 0u);
}

TEST(RawTcp, RefusesMessagesWithoutBytes) {
  EXPECT_FALSE(measure_raw_tcp(0, 10, 1).ok());
  EXPECT_FALSE(measure_raw_tcp(10, 0, 1).ok());
  EXPECT_FALSE(measure_raw_tcp_stream(10, 0).ok());
}

TEST(RawTcp, StreamsEveryByte) {
  const auto ns = measure_raw_tcp_stream(10'000'001, 65536);
  ASSERT_TRUE(ns.ok()) << ns.error().message();
  EXPECT_GT(*ns, 0u);
}

}  // namespace
}  // namespace gob
