// The program of figures 13 and 14, unmoved, and what its reports are taken for.
#include "gobbench/migration/migrant.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gobbench/cluster.h"
#include "gobbench/migration/log_watch.h"
#include "gobbench/migration/migration_figure.h"

namespace gob::bench {
namespace {

TEST(Migrant, UsesTheVectorsThatFollow) {
  // It begins with vector 50 of 100; from step 10 on, those from 60 are used.
  EXPECT_EQ(bytes_used_from(100, 10, 40), 40u * 100 * sizeof(double));
  EXPECT_EQ(bytes_used_from(100, 10, 50), 40u * 100 * sizeof(double));
  // One step more, and it begins anew with all of them.
  EXPECT_EQ(bytes_used_from(100, 10, 51), 100u * 100 * sizeof(double));
  EXPECT_EQ(bytes_used_from(100, 50, 51), 100u * 100 * sizeof(double));
  EXPECT_EQ(bytes_used_from(100, 40, 40), 0u);
}

TEST(Migrant, MatrixFitsIntoTheMemoryAskedFor) {
  EXPECT_EQ(lines_of(std::uint64_t{128} << 20), 4096u);
  EXPECT_EQ(lines_of(std::uint64_t{1} << 30), 11585u);
}

// In a process of its own: it closes descriptors and leaves the session.
Result<MigrantReport> run_apart(MigrantOptions options, const std::string& name) {
  const auto directory = TemporaryDirectory::create();
  if (!directory) return directory.error();
  options.file = directory->path() + "/" + name;
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(run_migrant(options));
  int status = -1;
  ::waitpid(pid, &status, 0);
  if (status != 0) return make_error(ErrorCode::kSystem, "it ended with " + std::to_string(status));
  const auto line = await_line(options.file, "digest", std::chrono::seconds(1));
  return line ? parse_report(*line) : line.error();
}

TEST(Migrant, DoesTheSameWorkAgain) {
  const auto timed = run_apart({.lines = 33, .steps = 0, .seconds = 0.02, .file = ""}, "timed");
  ASSERT_TRUE(timed) << timed.error().message();
  ASSERT_GT(timed->steps, 0u);
  const auto counted =
      run_apart({.lines = 33, .steps = timed->steps, .seconds = 0, .file = ""}, "counted");
  ASSERT_TRUE(counted) << counted.error().message();
  EXPECT_EQ(counted->steps, timed->steps);
  EXPECT_EQ(counted->digest, timed->digest);
  EXPECT_LT(counted->error, 1e-9);
  const auto other =
      run_apart({.lines = 33, .steps = timed->steps + 1, .seconds = 0, .file = ""}, "other");
  ASSERT_TRUE(other) << other.error().message();
  EXPECT_NE(other->digest, timed->digest);
}

TEST(Migrant, AReportIsOne) { EXPECT_FALSE(parse_report("{\"steps\": 3}")); }

}  // namespace
}  // namespace gob::bench
