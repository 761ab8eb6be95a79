#include "gobbench/process.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>

namespace gob::bench {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

constexpr milliseconds kLong{20000};

Result<Process> start(std::vector<std::string> argv) {
  SpawnOptions options;
  options.argv = std::move(argv);
  return Process::spawn(options);
}

TEST(Process, CleanExitHasNoEnding) {
  Result<Process> process = start({"true"});
  ASSERT_TRUE(process) << process.error().message();
  EXPECT_TRUE(process->wait(kLong));
  EXPECT_EQ(process->ending(), "");
}

TEST(Process, TellsTheExitCode) {
  Result<Process> process = start({"sh", "-c", "exit 3"});
  ASSERT_TRUE(process);
  const Status ended = process->wait(kLong);
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().message(), "sh exited with 3");
}

TEST(Process, TellsTheSignal) {
  Result<Process> process = start({"sh", "-c", "kill -BUS $$"});
  ASSERT_TRUE(process);
  const Status ended = process->wait(kLong);
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().message(), "sh was killed by SIGBUS");
}

TEST(Process, AProgramThatIsNotThereIsAnError) {
  const Result<Process> process = start({"no-such-program-of-gobbench"});
  ASSERT_FALSE(process);
  EXPECT_EQ(process.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(process.error().message(), HasSubstr("no-such-program-of-gobbench"));
}

TEST(Process, WaitingIsBoundedAndDestructionEndsTheChild) {
  pid_t pid = -1;
  {
    Result<Process> process = start({"cat", "/dev/zero"});
    SpawnOptions options;
    ASSERT_TRUE(process);
    pid = process->pid();
    Result<Process> stuck = start({"sh", "-c", "kill -STOP $$"});
    ASSERT_TRUE(stuck);
    const Status ended = stuck->wait(milliseconds(10));
    ASSERT_FALSE(ended);
    EXPECT_EQ(ended.error().code, ErrorCode::kTimedOut);
  }
  EXPECT_EQ(::kill(pid, 0), -1);
}

TEST(Process, EnvironmentAddedWinsOverTheOwn) {
  ::setenv("GOBBENCH_TEST", "old", 1);
  SpawnOptions options;
  options.argv = {"printenv", "GOBBENCH_TEST"};
  options.environment = {"GOBBENCH_TEST=new"};
  const Result<std::string> out = output_of(options);
  ASSERT_TRUE(out) << out.error().message();
  EXPECT_EQ(*out, "new\n");
}

TEST(OutputOf, AFailureTellsTheCommandAndWhatItPrinted) {
  SpawnOptions options;
  options.argv = {"sh", "-c", "echo sorry >&2; exit 1"};
  const Result<std::string> out = output_of(options);
  ASSERT_FALSE(out);
  EXPECT_THAT(out.error().message(), HasSubstr("sh -c"));
  EXPECT_THAT(out.error().message(), HasSubstr("sorry"));
}

TEST(PinnedThread, GoesBackWhereItWas) {
  const std::vector<unsigned> before = usable_cpus();
  ASSERT_FALSE(before.empty());
  {
    const PinnedThread pinned(before.back());
    EXPECT_EQ(usable_cpus(), std::vector<unsigned>{before.back()});
    SpawnOptions options;
    options.argv = {"nproc"};
    options.cpu = before.front();
    const Result<std::string> out = output_of(options);
    ASSERT_TRUE(out);
    EXPECT_EQ(*out, "1\n");
  }
  EXPECT_EQ(usable_cpus(), before);
}

}  // namespace
}  // namespace gob::bench
