// A line for each kind of failure, and no flood of them.
#include "libgob/file/failure_log.h"

#include <gtest/gtest.h>

#include <vector>

namespace gob::file {
namespace {

using namespace std::chrono_literals;

TEST(FailureLog, OfEachKindOneLineIsWrittenAndTheRestAreCounted) {
  std::vector<std::string> lines;
  FailureLog log(1h, [&](const std::string& line) { lines.push_back(line); });
  unsigned made = 0;
  for (unsigned i = 0; i < 1000; ++i)
    log.add("lost", [&] { return "lost " + std::to_string(++made); });
  log.add("late", [] { return std::string("late"); });
  EXPECT_EQ(lines, (std::vector<std::string>{"lost 1", "late"}));
  EXPECT_EQ(made, 1u);  // the text of the others was never made
}

TEST(FailureLog, TheNextLineSaysHowManyWereLeftOut) {
  std::vector<std::string> lines;
  FailureLog log(0s, [&](const std::string& line) { lines.push_back(line); });
  log.add("lost", [] { return std::string("one"); });
  log.add("lost", [] { return std::string("two"); });
  EXPECT_EQ(lines, (std::vector<std::string>{"one", "two"}));

  FailureLog::Clock::time_point now{};
  FailureLog counted(
      10s, [&](const std::string& line) { lines.push_back(line); }, [&] { return now; });
  lines.clear();
  for (unsigned i = 0; i < 4; ++i) counted.add("lost", [] { return std::string("first"); });
  now += 10s;
  counted.add("lost", [] { return std::string("second"); });
  EXPECT_EQ(lines,
            (std::vector<std::string>{"first", "second (3 more like this since the last line)"}));
}

// Else the last of a burst would never be told.
TEST(FailureLog, WhatWasLeftOutIsSaidWhenTheQuietTimeIsOver) {
  std::vector<std::string> lines;
  FailureLog::Clock::time_point now{};
  FailureLog log(
      10s, [&](const std::string& line) { lines.push_back(line); }, [&] { return now; });
  const auto never = FailureLog::Clock::time_point::max();
  EXPECT_EQ(log.flush(), never);
  for (unsigned i = 0; i < 4; ++i) log.add("lost", [] { return std::string("lost"); });
  EXPECT_EQ(log.flush(), now + 10s);
  EXPECT_EQ(lines.size(), 1u);
  now += 10s;
  EXPECT_EQ(log.flush(), never);
  EXPECT_EQ(lines, (std::vector<std::string>{"lost", "3 more like this: lost"}));
  EXPECT_EQ(log.flush(), never);
  log.add("lost", [] { return std::string("again"); });
  EXPECT_EQ(lines.size(), 2u);  // that was a line
}

}  // namespace
}  // namespace gob::file
