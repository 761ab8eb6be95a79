// The figures with nodes in network namespaces of their own, joined by veth.
#include <gtest/gtest.h>

#include <algorithm>

#include "gobbench/process.h"
#include "gobbench/table.h"

namespace gob::bench {
namespace {

TEST(Netns, FiguresAreRightAcrossNamespaces) {
  for (const char* figure : {"9", "10"}) {
    SpawnOptions options;
    options.argv = {GOBBENCH_PROGRAM, "--results", "",      "--netns", "figure",
                    figure,           "--nodes",   "1,3",   "--size",  "128",
                    "--runs",         "1",         "--json"};
    const Result<std::string> out = output_of(options);
    ASSERT_TRUE(out) << out.error().message();
    const Json rows = Json::parse(*out)["rows"];
    // The paper's readings are in the table, too.
    const auto measured = std::count_if(
        rows.begin(), rows.end(), [](const Json& row) { return row.at("source") == "measured"; });
    EXPECT_EQ(measured, 2);
  }
}

TEST(Netns, FaultsAndTheirBaselineCrossTheVeth) {
  SpawnOptions options;
  options.argv = {GOBBENCH_PROGRAM, "--results", "",         "--netns", "fault", "--nodes", "2",
                  "--samples",      "20",        "--rounds", "1",       "--json"};
  const Result<std::string> out = output_of(options);
  ASSERT_TRUE(out) << out.error().message();
  EXPECT_EQ(Json::parse(*out)["parameters"]["network"],
            "network namespaces joined by veth pairs and a bridge");
}

// Other servers are measured where they are installed; the nodes' own mount everywhere.
TEST(Netns, FilesAreReadOverALimitedNetwork) {
  SpawnOptions options;
  options.argv = {
      GOBBENCH_PROGRAM, "--results", "",   "figure",  "12", "--rate", "0,1000", "--size",
      "256K",           "--request", "4K", "--depth", "3",  "--runs", "1",      "--json"};
  const Result<std::string> out = output_of(options);
  ASSERT_TRUE(out) << out.error().message();
  const Json rows = Json::parse(*out)["rows"];
  const auto rate_of = [&](const std::string& network, const std::string& from) {
    for (const Json& row : rows)
      if (row["network"] == network && row["read_from"] == from)
        return row["mebibytes_per_second"].get<double>();
    return 0.0;
  };
  const double limit = 1e9 / 8 / (1024.0 * 1024.0);
  EXPECT_GT(rate_of("veth, 1000 Mbit/s", "raw TCP stream"), 0.0);
  EXPECT_LT(rate_of("veth, 1000 Mbit/s", "raw TCP stream"), limit);
  EXPECT_GT(rate_of("veth, 1000 Mbit/s", "gobd, in another node's memory"), 0.0);
  EXPECT_GT(rate_of("veth, 1000 Mbit/s", "gobd, the same in order"), 0.0);
  EXPECT_GT(rate_of("veth", "gobd, read before on this node"), 0.0);
  EXPECT_GT(rate_of("veth", "local disk, in the page cache"), 0.0);
}

}  // namespace
}  // namespace gob::bench
