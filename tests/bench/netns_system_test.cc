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

}  // namespace
}  // namespace gob::bench
