// Workers and whole commands on clusters of real gobd processes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "gobbench/algorithm.h"
#include "gobbench/page_pattern.h"
#include "gobbench/worker.h"
#include "gobbench/worker_main.h"

namespace gob::bench {
namespace {

using ::testing::HasSubstr;

Cluster start_cluster(unsigned nodes) {
  ClusterOptions options;
  options.nodes = nodes;
  options.budget_bytes = std::uint64_t{64} << 20;
  Result<Cluster> cluster = Cluster::start(options);
  if (!cluster) throw std::runtime_error(cluster.error().message());
  return std::move(*cluster);
}

// Runs gobbench with these arguments and returns what it printed.
Result<std::string> gobbench(std::vector<std::string> arguments) {
  SpawnOptions options;
  options.argv = {GOBBENCH_PROGRAM, "--results", ""};
  options.argv.insert(options.argv.end(), arguments.begin(), arguments.end());
  return output_of(options);
}

class WorkersTest : public ::testing::Test {
 protected:
  WorkersTest() : cluster_(start_cluster(2)) {
    Result<std::vector<Worker>> workers = start_workers(cluster_, 2);
    if (!workers) throw std::runtime_error(workers.error().message());
    workers_ = std::move(*workers);
  }

  // Makes a container and maps it on both nodes.
  void share(const std::string& container, std::size_t bytes) {
    const Result<Json> made =
        workers_[0].call({{"do", "create"}, {"container", container}, {"bytes", bytes}});
    ASSERT_TRUE(made) << made.error().message();
    for (Worker& worker : workers_) {
      const Result<Json> mapped = worker.call({{"do", "map"}, {"container", container}});
      ASSERT_TRUE(mapped) << mapped.error().message();
    }
  }
  static Json touch(const std::string& container, const char* access, bool written) {
    return {{"do", "touch"},      {"container", container}, {"access", access},
            {"written", written}, {"order", "random"},      {"seed", 3}};
  }

  Cluster cluster_;
  std::vector<Worker> workers_;
};

TEST_F(WorkersTest, OneNodeFindsWhatTheOtherWrote) {
  share("shared", 100 * kPageSize);
  ASSERT_TRUE(workers_[1].call(touch("shared", "write", true)));
  const Result<Json> read = workers_[0].call(touch("shared", "read", true));
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(read->at("ns").size(), 100u);
}

TEST_F(WorkersTest, PagesThatHoldSomethingElseAreAnError) {
  share("zeros", 10 * kPageSize);
  const Result<Json> read = workers_[0].call(touch("zeros", "read", true));
  ASSERT_FALSE(read);
  EXPECT_THAT(read.error().message(), HasSubstr("holds 0 instead of"));
  EXPECT_THAT(read.error().message(), HasSubstr("node n1"));
}

TEST_F(WorkersTest, StreamsCheckEveryWord) {
  share("stream", 200 * kPageSize);
  ASSERT_TRUE(workers_[1].call({{"do", "fill"}, {"container", "stream"}}));
  const Json stream{
      {"do", "stream"}, {"container", "stream"}, {"order", "sequential"}, {"seed", 1}};
  const Result<Json> read = workers_[0].call(stream);
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_GT(read->at("ns").get<std::int64_t>(), 0);
  ASSERT_TRUE(workers_[1].call(touch("stream", "write", true)));  // the same first words
  ASSERT_TRUE(workers_[0].call(stream));
  share("empty", kPageSize);
  Json wrong = stream;
  wrong["container"] = "empty";
  EXPECT_FALSE(workers_[0].call(wrong));
}

TEST_F(WorkersTest, AWrongElementIsFoundAndNamed) {
  Problem problem;
  problem.size = 16;
  problem.stride = 16;
  problem.iterations = 3;
  const UniqueFd file(::memfd_create("reference", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(file.get(), static_cast<off_t>(problem.bytes())), 0);
  auto* reference = static_cast<double*>(
      ::mmap(nullptr, problem.bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0));
  ASSERT_NE(reference, MAP_FAILED);
  solve_sequentially(problem, {reference, 16, 16});
  reference[5 * 16 + 7] += 1;  // what is computed rightly now differs from it

  share("u", kPageSize);
  share("temporary", kPageSize);
  Json request{{"do", "algorithm"}, {"algorithm", "jacobi"}, {"size", 16},
               {"stride", 16},      {"iterations", 3},       {"block", 4},
               {"workers", 2},      {"container", "u"},      {"temporary", "temporary"},
               {"barrier", "b"}};
  request["reference"] =
      "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(file.get());
  std::vector<Json> requests(2, request);
  requests[0]["worker"] = 0;
  requests[1]["worker"] = 1;
  const Result<std::vector<Json>> replies = call_all(workers_, requests);
  ::munmap(reference, problem.bytes());
  ASSERT_FALSE(replies);
  EXPECT_THAT(replies.error().message(), HasSubstr("element (5, 7)"));
}

TEST_F(WorkersTest, UnknownRequestsAndContainersAreErrors) {
  const Result<Json> unknown = workers_[0].call({{"do", "dance"}});
  ASSERT_FALSE(unknown);
  EXPECT_THAT(unknown.error().message(), HasSubstr("unknown request 'dance'"));
  const Result<Json> unmapped = workers_[0].call({{"do", "fill"}, {"container", "nowhere"}});
  ASSERT_FALSE(unmapped);
  EXPECT_THAT(unmapped.error().message(), HasSubstr("container nowhere is not mapped"));
}

TEST_F(WorkersTest, TheFirstFailureEndsTheWaitForOthers) {
  // The other would wait for a second participant for ever.
  share("lines", kPageSize);
  const std::vector<Json> requests = {{{"do", "algorithm"},
                                       {"algorithm", "mgs"},
                                       {"size", 8},
                                       {"stride", 8},
                                       {"iterations", 0},
                                       {"block", 1},
                                       {"workers", 2},
                                       {"worker", 0},
                                       {"container", "lines"},
                                       {"barrier", "alone"},
                                       {"reference", "/dev/null"}},
                                      {{"do", "dance"}}};
  const Result<std::vector<Json>> replies = call_all(workers_, requests);
  ASSERT_FALSE(replies);
  EXPECT_THAT(replies.error().message(), HasSubstr("node n2"));
}

TEST(ClusterStart, ADaemonThatEndsIsReportedWithItsLog) {
  ClusterOptions options;
  options.budget_bytes = 1;
  const Result<Cluster> cluster = Cluster::start(options);
  ASSERT_FALSE(cluster);
  EXPECT_THAT(cluster.error().message(), HasSubstr("gobd of node n1"));
  EXPECT_THAT(cluster.error().message(), HasSubstr("budget"));
}

TEST(ClusterStart, WithoutAnyGobdSaysWhatToDo) {
  const std::string path = std::getenv("PATH");
  ::setenv("PATH", "/nowhere", 1);
  const Result<Cluster> cluster = Cluster::start({});
  ::setenv("PATH", path.c_str(), 1);
  ASSERT_FALSE(cluster);
  EXPECT_THAT(cluster.error().message(), HasSubstr("--cluster-dir"));
}

TEST(ClusterAttach, ADirectoryWithoutAClusterIsAnError) {
  const Result<Cluster> cluster = Cluster::attach("/nowhere");
  ASSERT_FALSE(cluster);
  EXPECT_THAT(cluster.error().message(), HasSubstr("gobctl cluster up"));
}

TEST(Command, Figure9IsRightOnTwoNodes) {
  const Result<std::string> out =
      gobbench({"figure", "9", "--nodes", "2", "--size", "64", "--runs", "1", "--json"});
  ASSERT_TRUE(out) << out.error().message();
  const Json json = Json::parse(*out);
  ASSERT_EQ(json["rows"].size(), 1u);
  EXPECT_EQ(json["rows"][0]["nodes"], 2);
  EXPECT_GT(json["rows"][0]["speed_up"].get<double>(), 0);
}

TEST(Command, Figure10IsRightOnOneToThreeNodes) {
  const Result<std::string> out =
      gobbench({"figure", "10", "--nodes", "1,2,3", "--size", "64,96", "--runs", "1", "--json"});
  ASSERT_TRUE(out) << out.error().message();
  const Json rows = Json::parse(*out)["rows"];
  ASSERT_EQ(rows.size(), 7u);
  for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(rows[i]["source"], "measured");
  EXPECT_EQ(rows[6]["source"], "paper");
}

TEST(Command, PaddedLinesAreRightToo) {
  for (const char* figure : {"9", "10"}) {
    const Result<std::string> out = gobbench(
        {"figure", figure, "--nodes", "3", "--size", "50", "--runs", "1", "--padded", "--json"});
    ASSERT_TRUE(out) << out.error().message();
  }
}

TEST(Command, FaultMeasuresEveryCaseOnTwoNodes) {
  const Result<std::string> out =
      gobbench({"fault", "--nodes", "2", "--samples", "40", "--rounds", "2", "--json"});
  ASSERT_TRUE(out) << out.error().message();
  const Json json = Json::parse(*out);
  EXPECT_EQ(json["rows"].size(), 9u);
  for (const Json& row : json["rows"]) EXPECT_GE(row["samples"].get<int>(), 40) << row.dump();
  EXPECT_EQ(json["targets"].size(), 2u);
}

TEST(Command, StreamReadsEverything) {
  const Result<std::string> out = gobbench({"stream", "--size", "4M", "--runs", "1", "--json"});
  ASSERT_TRUE(out) << out.error().message();
  const Json rows = Json::parse(*out)["rows"];
  ASSERT_EQ(rows.size(), 4u);
  for (const Json& row : rows) EXPECT_GT(row["mebibytes_per_second"], 0.0) << row;
}

TEST(Command, SimulatesAFigure) {
  const Result<std::string> out =
      gobbench({"simulate", "figure", "10", "--preset", "tcp-25g", "--set", "link_us=7", "--set",
                "hold_us=20", "--nodes", "1,3", "--size", "64", "--json"});
  ASSERT_TRUE(out) << out.error().message();
  const Json json = Json::parse(*out);
  ASSERT_EQ(json["rows"].size(), 3u);
  EXPECT_EQ(json["rows"][0]["source"], "simulated tcp-25g, link_us=7, hold_us=20");
  EXPECT_EQ(json["parameters"]["timing"]["link_us"]["value"], 7.0);
  EXPECT_EQ(json["parameters"]["timing"]["link_us"]["source"], "command line");
  EXPECT_EQ(json["parameters"]["timing"]["hold_us"]["value"], 20.0);
}

TEST(Command, SimulatesScale) {
  const Result<std::string> out = gobbench(
      {"simulate", "scale", "--nodes", "4,16,64", "--pages", "65536", "--misses", "32", "--json"});
  ASSERT_TRUE(out) << out.error().message();
  const Json json = Json::parse(*out);
  EXPECT_EQ(json["rows"].size(), 8u * 3);
  for (const Json& target : json["targets"]) EXPECT_EQ(target["met"], true) << target.dump();
}

TEST(Command, SimulationIsHeldAgainstTheRealThing) {
  if (usable_cpus().size() < 2) GTEST_SKIP() << "one core: two nodes cannot have a core each";
  const Result<std::string> out = gobbench(
      {"simulate", "validate", "--size", "64", "--iterations", "5", "--runs", "1", "--json"});
  ASSERT_TRUE(out) << out.error().message();
  const Json json = Json::parse(*out);
  ASSERT_EQ(json["rows"].size(), 5u);
  for (const Json& row : json["rows"]) {
    EXPECT_GT(row["measured"].get<double>(), 0) << row.dump();
    EXPECT_GT(row["simulated"].get<double>(), 0) << row.dump();
  }
}

TEST(Command, ListsPresets) {
  const Result<std::string> out = gobbench({"simulate", "presets"});
  ASSERT_TRUE(out) << out.error().message();
  for (const char* name : {"gige-2002", "tcp-25g", "roce-100g", "gigabits_a_second"})
    EXPECT_THAT(*out, HasSubstr(name));
}

TEST(Command, WrongUsageExitsWith2AndHelps) {
  const std::vector<std::vector<std::string>> wrong = {{"figure", "8"},
                                                       {"figure", "9", "--size", "2"},
                                                       {"figure", "10", "--size", "64M"},
                                                       {"figure", "11", "--size", "1000"},
                                                       {"figure", "12", "--depth", "0"},
                                                       {"figure", "9", "--nodes", "0"},
                                                       {"stream", "--size", "lots"},
                                                       {"simulate"},
                                                       {"simulate", "figure", "8"},
                                                       {"simulate", "scale", "--nodes", "2000"},
                                                       {"simulate", "scale", "--preset", "abacus"},
                                                       {"simulate", "scale", "--set", "x=1"},
                                                       {"dance"},
                                                       {}};
  for (const auto& arguments : wrong) {
    const Result<std::string> out = gobbench(arguments);
    ASSERT_FALSE(out);
    EXPECT_THAT(out.error().message(), HasSubstr("exited with 2"));
  }
}

TEST(Command, FailsWithoutTheClusterItWasToldToUse) {
  const Result<std::string> out = gobbench({"--cluster-dir", "/nowhere", "figure", "9"});
  ASSERT_FALSE(out);
  EXPECT_THAT(out.error().message(), HasSubstr("exited with 1"));
  EXPECT_THAT(out.error().message(), HasSubstr("no development cluster in /nowhere"));
}

}  // namespace
}  // namespace gob::bench

// Workers are this program itself, run again.
int main(int argc, char** argv) {
  if (argc == 4 && std::strcmp(argv[1], "worker") == 0) return gob::bench::run_worker(argv[3]);
  const std::string path = std::string(GOBD_FOLDER) + ":" + std::getenv("PATH");
  ::setenv("PATH", path.c_str(), 1);
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
