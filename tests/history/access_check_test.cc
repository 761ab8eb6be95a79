// The checker of programs' histories: what could have happened passes, the rest is found.
#include "tests/history/access_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/sim/random.h"

namespace gob::history {
namespace {

using testing::HasSubstr;

constexpr std::uint32_t kX = 0;
constexpr std::uint32_t kY = 1;

LoggedAccess write(std::uint32_t location, std::uint64_t value, std::uint64_t begin,
                   std::uint64_t end) {
  return {begin, end, value, location, LoggedAccess::Kind::kWrite, false};
}
LoggedAccess read(std::uint32_t location, std::uint64_t value, std::uint64_t begin,
                  std::uint64_t end) {
  return {begin, end, value, location, LoggedAccess::Kind::kRead, false};
}
LoggedAccess timeless(LoggedAccess access) {
  access.timeless = true;
  return access;
}
std::string check(const std::vector<ThreadLog>& threads) { return check_accesses(threads).text(); }

TEST(AccessCheck, PassesWhatIsOneAfterTheOther) {
  EXPECT_EQ(check({{read(kX, 0, 1, 2), write(kX, 1, 3, 4), read(kX, 1, 5, 6)},
                   {read(kX, 1, 7, 8), write(kX, 2, 9, 10)},
                   {read(kX, 2, 11, 12)}}),
            "");
}

TEST(AccessCheck, AnAccessUnderWayMaySeeEitherValue) {
  for (const std::uint64_t seen : {0, 1})
    EXPECT_EQ(check({{write(kX, 1, 10, 20)}, {read(kX, seen, 12, 15)}}), "") << seen;
  // Both writes are under way: each reader may see either, but not one after the other and back.
  EXPECT_EQ(check({{write(kX, 1, 10, 20)},
                   {write(kX, 2, 10, 20)},
                   {read(kX, 1, 12, 13), read(kX, 2, 16, 17)},
                   {read(kX, 2, 18, 19)}}),
            "");
  EXPECT_THAT(check({{write(kX, 1, 10, 20)},
                     {write(kX, 2, 10, 20)},
                     {read(kX, 1, 11, 12), read(kX, 2, 13, 14), read(kX, 1, 15, 16)}}),
              HasSubstr("seen when it was overwritten"));
}

TEST(AccessCheck, FindsAStaleRead) {
  EXPECT_THAT(check({{write(kX, 1, 1, 2), write(kX, 2, 3, 4)}, {read(kX, 1, 5, 6)}}),
              HasSubstr("seen when it was overwritten"));
  EXPECT_THAT(check({{write(kX, 1, 1, 2)}, {read(kX, 0, 5, 6)}}),
              HasSubstr("seen when it was overwritten"));
}

TEST(AccessCheck, FindsReadersThatDisagreeOnTheOrder) {
  EXPECT_THAT(check({{write(kX, 1, 1, 100)},
                     {write(kX, 2, 1, 100)},
                     {read(kX, 1, 10, 20), read(kX, 2, 30, 40)},
                     {read(kX, 2, 11, 21), read(kX, 1, 31, 41)}}),
              HasSubstr("seen when it was overwritten"));
}

TEST(AccessCheck, FindsAValueSeenBeforeItIsWritten) {
  EXPECT_THAT(check({{write(kX, 1, 10, 20)}, {read(kX, 1, 1, 2)}}),
              HasSubstr("before it is written"));
}

TEST(AccessCheck, FindsValuesOutOfNowhereAndThoseOfOtherPlaces) {
  EXPECT_THAT(check({{read(kX, 9, 1, 2)}}), HasSubstr("nobody wrote there"));
  EXPECT_THAT(check({{write(kY, 1, 1, 2), read(kX, 1, 3, 4)}}), HasSubstr("nobody wrote there"));
  EXPECT_THAT(check({{write(kX, 1, 1, 2)}, {write(kX, 1, 3, 4)}}), HasSubstr("not its own"));
}

// Without their times nothing but the circle tells that these could not have happened.
TEST(AccessCheck, FindsWhatNoOrderExplains) {
  EXPECT_EQ(check({{write(kX, 1, 1, 2), timeless(read(kY, 0, 3, 4))},
                   {write(kY, 2, 5, 6), timeless(read(kX, 1, 7, 8))}}),
            "");
  EXPECT_THAT(check({{write(kX, 1, 1, 2), timeless(read(kY, 0, 3, 4))},
                     {write(kY, 2, 1, 2), timeless(read(kX, 0, 3, 4))}}),
              HasSubstr("stands in a circle"));
  EXPECT_THAT(check({{write(kX, 1, 1, 2), write(kY, 2, 3, 4)},
                     {timeless(read(kY, 2, 5, 6)), timeless(read(kX, 0, 7, 8))}}),
              HasSubstr("stands in a circle"));
}

TEST(AccessCheck, AWriteThatWasUnderWayAtTheEndMayHaveHappened) {
  const std::uint64_t never = LoggedAccess::kNever;
  EXPECT_EQ(check({{write(kX, 1, 1, 2), write(kX, 2, 3, never)}, {read(kX, 1, 5, 6)}}), "");
  EXPECT_EQ(check({{write(kX, 1, 1, 2), write(kX, 2, 3, never)}, {read(kX, 2, 5, 6)}}), "");
  EXPECT_THAT(
      check({{write(kX, 1, 1, 2), write(kX, 2, 3, never)}, {read(kX, 2, 5, 6), read(kX, 1, 7, 8)}}),
      HasSubstr("seen when it was overwritten"));
}

// A history as a coherent memory makes it: each access takes effect at a moment within its time.
std::vector<ThreadLog> random_history(std::uint64_t seed) {
  sim::Random random(seed);
  std::vector<ThreadLog> threads(4);
  std::vector<std::uint64_t> free_at(threads.size(), 0);
  std::vector<std::uint64_t> memory(3, 0);
  std::uint64_t value = 0;
  for (std::uint64_t now = 100; now < 40'000; now += 1 + random.below(20)) {
    const unsigned t = random.pick(4);
    if (free_at[t] >= now) continue;
    const auto location = static_cast<std::uint32_t>(random.pick(3));
    const std::uint64_t begin = random.between(free_at[t] + 1, now);
    const std::uint64_t end = now + random.below(100);
    if (random.one_in(2)) {
      memory[location] = ++value;
      threads[t].push_back(write(location, value, begin, end));
    } else {
      threads[t].push_back(read(location, memory[location], begin, end));
    }
    free_at[t] = end;
  }
  return threads;
}

TEST(AccessCheck, PassesEveryHistoryOfACoherentMemory) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed)
    ASSERT_EQ(check(random_history(seed)), "") << "seed " << seed;
}

// On a node that was cut off, reads still see what they saw, whatever they are given for times.
TEST(AccessCheck, PassesItWithoutTheTimesOfSomeReads) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    std::vector<ThreadLog> threads = random_history(seed);
    for (LoggedAccess& access : threads[0])
      access.timeless = access.kind == LoggedAccess::Kind::kRead && access.begin_ns > 20'000;
    ASSERT_EQ(check(threads), "") << "seed " << seed;
  }
}

// A read that sees a value overwritten long before it began: found in every history.
TEST(AccessCheck, FindsAStaleValueAnywhere) {
  unsigned tried = 0;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    std::vector<ThreadLog> threads = random_history(seed);
    sim::Random random(seed);
    ThreadLog& log = threads[random.pick(4)];
    LoggedAccess& access = log[log.size() / 2 + random.below(log.size() / 2)];
    if (access.kind != LoggedAccess::Kind::kRead) continue;
    std::vector<std::uint64_t> over;  // values grow from write to write
    for (const ThreadLog& thread : threads)
      for (const LoggedAccess& other : thread)
        if (other.kind == LoggedAccess::Kind::kWrite && other.location == access.location &&
            other.end_ns < access.begin_ns)
          over.push_back(other.value);
    ASSERT_GE(over.size(), 8u);
    std::ranges::sort(over);
    // No write takes as long as four others that follow each other.
    access.value = over[over.size() - 8];
    EXPECT_NE(check(threads), "") << "seed " << seed;
    ++tried;
  }
  EXPECT_GT(tried, 50u);
}

}  // namespace
}  // namespace gob::history
