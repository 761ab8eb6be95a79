// Small values of libgob/base: sizes as people write them, histograms, results, descriptors.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "libgob/base/histogram.h"
#include "libgob/base/result.h"
#include "libgob/base/size.h"
#include "libgob/base/unique_fd.h"

namespace gob {
namespace {

TEST(Size, TakesNumbersWithUnits) {
  const std::pair<const char*, std::uint64_t> cases[] = {
      {"0", 0},
      {"4096", 4096},
      {"64M", 64ull << 20},
      {"64MB", 64ull << 20},
      {"64MiB", 64ull << 20},
      {"1.5G", 3ull << 29},
      {"1t", 1ull << 40},
      {"2P", 2ull << 50},
      {"7B", 7},
      {"1K", 1024},
  };
  for (const auto& [text, bytes] : cases) {
    const auto parsed = parse_size(text);
    ASSERT_TRUE(parsed.ok()) << text << ": " << parsed.error().message();
    EXPECT_EQ(*parsed, bytes) << text;
  }
}

TEST(Size, RefusesNonsenseAndNamesIt) {
  for (const char* text :
       {"", "M", "abc", "-1", "1X", "1MM", "1 M", "64Mi", "nan", "inf", "1e300", "100000000P"}) {
    const auto parsed = parse_size(text);
    ASSERT_FALSE(parsed.ok()) << text << " was taken as " << *parsed;
    EXPECT_EQ(parsed.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(parsed.error().message().find('\'' + std::string(text) + '\''), std::string::npos);
  }
}

TEST(Size, FormatsWhatItParses) {
  EXPECT_EQ(format_size(0), "0 B");
  EXPECT_EQ(format_size(1023), "1023 B");
  EXPECT_EQ(format_size(64ull << 20), "64 MiB");
  EXPECT_EQ(format_size(3ull << 29), "1.5 GiB");
}

TEST(Histogram, EmptyAnswersZero) {
  const Histogram histogram;
  EXPECT_EQ(histogram.count(), 0u);
  EXPECT_EQ(histogram.percentile(0.5), 0u);
  EXPECT_EQ(histogram.min(), 0u);
  EXPECT_EQ(histogram.mean(), 0u);
}

TEST(Histogram, PercentilesAreWithinASixteenth) {
  Histogram histogram;
  for (std::uint64_t v = 1; v <= 100000; ++v) histogram.add(v);
  for (const double fraction : {0.01, 0.1, 0.5, 0.9, 0.99, 1.0}) {
    const double truth = fraction * 100000;
    EXPECT_NEAR(static_cast<double>(histogram.percentile(fraction)), truth, truth / 16 + 1);
  }
  EXPECT_EQ(histogram.min(), 1u);
  EXPECT_EQ(histogram.max(), 100000u);
}

TEST(Histogram, MergingIsTheSameAsAddingToOne) {
  Histogram both;
  Histogram low;
  Histogram high;
  for (std::uint64_t v = 0; v < 2000; ++v) {
    both.add(v * v);
    (v < 700 ? low : high).add(v * v);
  }
  low.merge(high);
  EXPECT_EQ(low.count(), both.count());
  EXPECT_EQ(low.min(), both.min());
  EXPECT_EQ(low.max(), both.max());
  EXPECT_EQ(low.mean(), both.mean());
  for (const double fraction : {0.1, 0.5, 0.99})
    EXPECT_EQ(low.percentile(fraction), both.percentile(fraction));
}

TEST(Histogram, TakesTheLargestValue) {
  Histogram histogram;
  histogram.add(~std::uint64_t{0});
  EXPECT_EQ(histogram.max(), ~std::uint64_t{0});
  EXPECT_EQ(histogram.count(), 1u);
  EXPECT_GT(histogram.percentile(0.5), std::uint64_t{1} << 62);
}

TEST(Result, HoldsAValueOrAnError) {
  const Result<int> value(5);
  EXPECT_TRUE(value.ok());
  EXPECT_EQ(*value, 5);
  const Result<int> error(make_error(ErrorCode::kNotFound, "no such thing"));
  EXPECT_FALSE(error.ok());
  EXPECT_EQ(error.error().message(), "no such thing");
}

TEST(Result, MovesAValueThatCannotBeCopied) {
  Result<std::unique_ptr<int>> result(std::make_unique<int>(3));
  const std::unique_ptr<int> taken = std::move(result).value();
  EXPECT_EQ(*taken, 3);
}

TEST(Result, SystemErrorsSayWhatTheSystemSaid) {
  errno = ENOENT;
  const Status status(system_error("cannot open 'x'"));
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(status.error().errno_value, ENOENT);
  EXPECT_EQ(status.error().message(), "cannot open 'x': No such file or directory");
}

TEST(UniqueFd, ClosesItsDescriptorOnce) {
  const auto is_open = [](int fd) { return ::fcntl(fd, F_GETFD) != -1; };
  UniqueFd fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(fd);
  const int number = fd.get();
  {
    UniqueFd moved(std::move(fd));
    EXPECT_EQ(moved.get(), number);
    EXPECT_TRUE(is_open(number));
  }
  EXPECT_FALSE(is_open(number));
}

}  // namespace
}  // namespace gob
