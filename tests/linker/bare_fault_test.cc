#include "libgob/linker/bare_fault.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>

#include "libgob/linker/bare_program.h"
#include "libgob/linker/uffd_calls.h"

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

bool page_of_its_index(const std::byte* page, std::uint64_t index) {
  return page[0] == static_cast<std::byte>(index);
}

TEST(BareProgramTest, ChecksWhatItReads) {
  for (const unsigned right : {1u, 2u}) {
    auto program = BareProgram::start("test", 2, page_of_its_index);
    ASSERT_TRUE(program) << program.error().message();
    std::vector<std::byte> bytes(2 * kPageSize);
    bytes[kPageSize] = std::byte{right == 2 ? std::uint8_t{1} : std::uint8_t{7}};
    const Mapping& mapping = program->mapping();
    const UffdResult copied =
        uffd_copy(mapping.uffd(), mapping.address_of(PageIndex{0}), 2, bytes.data(), true);
    ASSERT_EQ(copied.outcome, UffdOutcome::kDone);
    EXPECT_EQ(program->finish(std::chrono::seconds(10)).ok(), right == 2);
  }
}

TEST(BareProgramTest, IsNotWaitedForForEver) {
  auto program = BareProgram::start("test", 1, page_of_its_index);
  ASSERT_TRUE(program) << program.error().message();
  const auto ended = program->finish(std::chrono::milliseconds(50));  // its page never comes
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().code, ErrorCode::kTimedOut);
}

}  // namespace
}  // namespace gob
