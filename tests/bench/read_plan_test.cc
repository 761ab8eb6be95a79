#include "gobbench/files/read_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "gobbench/cluster.h"
#include "libgob/base/ids.h"

namespace gob::bench {
namespace {

TEST(ReadPlan, ReadsEachPartOnceInOrderOrNot) {
  ReadPlan plan{10 * kPageSize, 3 * kPageSize, 1, false, 7};
  EXPECT_EQ(read_offsets(plan),
            (std::vector<std::uint64_t>{0, 3 * kPageSize, 6 * kPageSize, 9 * kPageSize}));
  plan.random = true;
  plan.request_bytes = kPageSize;
  std::vector<std::uint64_t> offsets = read_offsets(plan);
  EXPECT_EQ(offsets, read_offsets(plan)) << "the seed gives the order";
  EXPECT_FALSE(std::is_sorted(offsets.begin(), offsets.end()));
  std::sort(offsets.begin(), offsets.end());
  plan.random = false;
  EXPECT_EQ(offsets, read_offsets(plan));
}

class PatternFile : public ::testing::Test {
 protected:
  void SetUp() override {
    Result<TemporaryDirectory> made = TemporaryDirectory::create();
    ASSERT_TRUE(made) << made.error().message();
    directory_.emplace(std::move(*made));
    path_ = directory_->path() + "/file";
    ASSERT_TRUE(write_pattern_file(path_, kBytes));
  }

  static constexpr std::uint64_t kBytes = 300 * kPageSize;  // more than one write
  std::optional<TemporaryDirectory> directory_;
  std::string path_;
};

TEST_F(PatternFile, IsReadAndCheckedAtAnyDepth) {
  EXPECT_EQ(std::filesystem::file_size(path_), kBytes);
  for (const unsigned depth : {1u, 5u})
    for (const bool random : {false, true}) {
      const auto seconds = read_file(path_, {kBytes, 7 * kPageSize, depth, random, 3});
      ASSERT_TRUE(seconds) << seconds.error().message();
      EXPECT_GT(*seconds, 0.0);
    }
}

TEST_F(PatternFile, WithAWrongWordIsAnError) {
  {
    std::fstream file(path_, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(123 * kPageSize);
    file.put('\x55');
  }
  for (const unsigned depth : {1u, 5u}) {
    const auto seconds = read_file(path_, {kBytes, kPageSize, depth, true, 3});
    ASSERT_FALSE(seconds);
    EXPECT_EQ(seconds.error().code, ErrorCode::kLost);
  }
}

TEST_F(PatternFile, ThatEndsEarlyIsAnError) {
  std::filesystem::resize_file(path_, kBytes - kPageSize);
  EXPECT_FALSE(read_file(path_, {kBytes, 7 * kPageSize, 2, false, 3}));
}

TEST_F(PatternFile, IsNotWrittenOverAnother) { EXPECT_FALSE(write_pattern_file(path_, kPageSize)); }

}  // namespace
}  // namespace gob::bench
