#include "libgob/linker/bare_fault.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace gob {
namespace {

class BareFaultTest : public ::testing::TestWithParam<FaultWait> {};

TEST_P(BareFaultTest, EveryTouchIsTimed) {
  auto measured = measure_bare_fault(2000, GetParam());
  ASSERT_TRUE(measured) << measured.error().message();
  std::vector<std::uint64_t>& took = *measured;
  ASSERT_EQ(took.size(), 2000u);
  std::sort(took.begin(), took.end());
  RecordProperty("p50_ns", std::to_string(took[1000]));
  // A fault that another process answers takes longer than a touch of mapped memory and less than
  // any time-out.
  EXPECT_GT(took[1000], 500u);
  EXPECT_LT(took[1000], 1'000'000'000u);
}

INSTANTIATE_TEST_SUITE_P(Waits, BareFaultTest,
                         ::testing::Values(FaultWait::kBlocking, FaultWait::kPolling),
                         [](const auto& instance) {
                           return instance.param == FaultWait::kBlocking ? "Blocking" : "Polling";
                         });

TEST(BareFaultLimitsTest, AbsurdRoundsAreRefused) {
  EXPECT_FALSE(measure_bare_fault(0, FaultWait::kBlocking));
  EXPECT_FALSE(measure_bare_fault(100'000'000, FaultWait::kBlocking));
}

}  // namespace
}  // namespace gob
