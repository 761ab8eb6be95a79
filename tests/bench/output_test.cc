#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <limits>

#include "gobbench/cluster.h"
#include "gobbench/publish.h"
#include "gobbench/reproduce.h"

namespace gob::bench {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

Table example_table() {
  Table table({{"what", "what"}, {"count", "count"}, {"time_us", "time µs", 1}});
  table.add({std::string("plain"), std::int64_t{7}, 1.0 / 3});
  table.add({std::string("with \"quotes\", and comma"), Cell(), 12.5});
  return table;
}

Outcome example_outcome() {
  Plot plot{"Title", {{"panel", "x", "y", false, false, {}, {}}}};
  plot.panels[0].curves.push_back({"it's a curve", {{1, 2}, {2, 3}}, Curve::Style::kLine});
  return {"example",
          "An example",
          example_table(),
          {{"ratio", 1.5, 2.0, 1.3, Target::Better::kSmaller}},
          {"a note"},
          {{"samples", 5}},
          plot};
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(Table, CsvQuotesWhatNeedsItAndKeepsFullPrecision) {
  EXPECT_EQ(example_table().csv(),
            "what,count,time_us\n"
            "plain,7,0.3333333333333333\n"
            "\"with \"\"quotes\"\", and comma\",,12.5\n");
}

TEST(Table, CsvHasNoWordsForNumbersThatAreNone) {
  Table table({{"x", "x"}, {"y", "y"}});
  table.add({std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()});
  EXPECT_EQ(table.csv(), "x,y\n,\n");
}

TEST(Table, JsonIsAListOfObjectsWithNullsForEmptyCells) {
  const Json json = example_table().json();
  ASSERT_EQ(json.size(), 2u);
  EXPECT_EQ(json[0]["what"], "plain");
  EXPECT_EQ(json[0]["count"], 7);
  EXPECT_DOUBLE_EQ(json[0]["time_us"].get<double>(), 1.0 / 3);
  EXPECT_TRUE(json[1]["count"].is_null());
}

TEST(Table, CsvComesBackAsItWas) {
  Table table({{"what", "what"}, {"count", "count"}, {"time_us", "time µs", 1}});
  table.add({std::string("a \"word\", and\nanother"), std::int64_t{-7}, 1.0 / 3});
  table.add({std::string("plain"), Cell(), 1e300});
  const Result<Table> back = Table::from_csv(table.columns(), table.csv());
  ASSERT_TRUE(back) << back.error().message();
  EXPECT_EQ(back->rows(), table.rows());
}

TEST(Table, CsvOfSomethingElseIsRefused) {
  const std::vector<Column> columns = {{"a", "a"}, {"b", "b"}};
  for (const char* wrong : {"a,c\n1,2\n", "a,b\n1\n", "a,b\n1,2,3\n", "a,b\n\"1,2\n"}) {
    const Result<Table> table = Table::from_csv(columns, wrong);
    ASSERT_FALSE(table) << wrong;
    EXPECT_THAT(table.error().message(), HasSubstr("line "));
  }
}

TEST(Table, TextAlignsNumbersToTheRight) {
  EXPECT_EQ(example_table().text(),
            "what                      count  time µs\n"
            "plain                         7      0.3\n"
            "with \"quotes\", and comma      -     12.5\n");
}

TEST(Table, MarkdownHasARuleUnderTheHeadings) {
  EXPECT_THAT(example_table().markdown(), HasSubstr("| what | count | time µs |\n|---|"));
}

TEST(Target, SaysWhetherItIsMetAndWhetherTheGoalIsReached) {
  EXPECT_EQ((Target{"x", 1.5, 2.0, 1.3, Target::Better::kSmaller}).text(),
            "met:    x 1.50, must be <= 2.00, goal <= 1.30 (not reached)");
  EXPECT_EQ((Target{"x", 0.5, 0.6, {}, Target::Better::kLarger}).text(),
            "MISSED: x 0.50, must be >= 0.60");
  EXPECT_TRUE((Target{"x", 0.9, 0.6, 0.85, Target::Better::kLarger}).reaches(0.85));
}

TEST(Plot, GnuplotDrawsItAsSvg) {
  const Result<std::string> svg = draw_svg(example_outcome().plot);
  ASSERT_TRUE(svg) << svg.error().message();
  EXPECT_THAT(*svg, HasSubstr("<svg"));
  EXPECT_THAT(*svg, HasSubstr("it's a curve"));
}

TEST(Plot, DrawsBarsAndSkipsWhatALogarithmCannotShow) {
  Panel panel{"", "", "ns", false, true, {}, {}};
  panel.bars = {{"some", 12}, {"none", 0}};
  const Result<std::string> svg = draw_svg({"Bars", {panel}});
  ASSERT_TRUE(svg) << svg.error().message();
  EXPECT_THAT(*svg, HasSubstr("some"));
  EXPECT_THAT(*svg, Not(HasSubstr("none</text>")));
}

class PublishTest : public ::testing::Test {
 protected:
  PublishTest() : made_(TemporaryDirectory::create()) {
    options_.results_dir = made_->path() + "/results";
    options_.command = "gobbench example";
  }
  Result<TemporaryDirectory> made_;
  PublishOptions options_;
};

TEST_F(PublishTest, WritesDataRunAndFigure) {
  const Status written = write_results(example_outcome(), options_);
  ASSERT_TRUE(written) << written.error().message();
  const std::string folder = options_.results_dir + "/example/";
  EXPECT_EQ(read_file(folder + "data.csv"), example_table().csv());
  EXPECT_THAT(read_file(folder + "figure.svg"), HasSubstr("</svg>"));
  const Json run = Json::parse(read_file(folder + "run.json"));
  EXPECT_EQ(run["command"], "gobbench example");
  EXPECT_FALSE(run["commit"].get<std::string>().empty());
  EXPECT_GE(run["machine"]["cores"].get<int>(), 1);
  EXPECT_FALSE(run["machine"]["kernel"].get<std::string>().empty());
  EXPECT_GE(run["machine"]["load_average"].get<double>(), 0);
  EXPECT_EQ(run["parameters"]["samples"], 5);
  EXPECT_EQ(run["targets"][0]["met"], true);
}

Outcome shared_outcome(const std::string& source, double value) {
  Outcome outcome = example_outcome();
  Table table({{"source", "source"}, {"y", "y"}});
  table.add({source, value});
  table.add({std::string("paper"), 5.2});
  outcome.table = table;
  outcome.sharing = Sharing{source, "paper", [](const Table& all) {
                              Plot plot{"Shared", {{"", "x", "y", false, false, {}, {}}}};
                              for (const auto& row : all.rows())
                                plot.panels[0].curves.push_back({std::get<std::string>(row[0]),
                                                                 {{1, std::get<double>(row[1])}},
                                                                 Curve::Style::kPoints});
                              return plot;
                            }};
  return outcome;
}

TEST_F(PublishTest, ASharedFolderKeepsWhatOthersWrote) {
  ASSERT_TRUE(write_results(shared_outcome("simulated", 1.5), options_));
  options_.command = "gobbench other";
  ASSERT_TRUE(write_results(shared_outcome("measured", 2.5), options_));
  ASSERT_TRUE(write_results(shared_outcome("measured", 3.5), options_));  // replaces its own
  const std::string folder = options_.results_dir + "/example/";
  EXPECT_EQ(read_file(folder + "data.csv"), "source,y\nmeasured,3.5\npaper,5.2\nsimulated,1.5\n");
  const Json runs = Json::parse(read_file(folder + "run.json"))["runs"];
  ASSERT_EQ(runs.size(), 2u);
  EXPECT_EQ(runs["simulated"]["command"], "gobbench example");
  EXPECT_EQ(runs["measured"]["command"], "gobbench other");
  const std::string svg = read_file(folder + "figure.svg");
  for (const char* source : {"measured", "paper", "simulated"}) EXPECT_THAT(svg, HasSubstr(source));
}

TEST_F(PublishTest, ASharedFolderWithOtherThingsIsLeftAlone) {
  ASSERT_TRUE(write_results(example_outcome(), options_));
  const std::string before = read_file(options_.results_dir + "/example/data.csv");
  const Status written = write_results(shared_outcome("measured", 1), options_);
  ASSERT_FALSE(written);
  EXPECT_THAT(written.error().message(), HasSubstr("cannot be kept beside these"));
  EXPECT_EQ(read_file(options_.results_dir + "/example/data.csv"), before);
}

TEST_F(PublishTest, NamesNoHost) {
  std::array<char, 256> host{};
  ASSERT_EQ(::gethostname(host.data(), host.size() - 1), 0);
  EXPECT_THAT(run_record(example_outcome(), "c")["machine"].dump(), Not(HasSubstr(host.data())));
}

TEST_F(PublishTest, SaysWhereItCouldNotWrite) {
  options_.results_dir = "/proc/no-such-place";
  const Status written = write_results(example_outcome(), options_);
  ASSERT_FALSE(written);
  EXPECT_THAT(written.error().message(), HasSubstr("/proc/no-such-place/example"));
}

TEST(Report, LinksPlotsAndStatesFailuresAndMissedTargetsPlainly) {
  Outcome missed = example_outcome();
  missed.targets[0].measured = 2.5;
  const std::vector<Finding> findings = {
      {"example", missed}, {"broken", make_error(ErrorCode::kSystem, "element (1, 2) is wrong")}};
  const std::string text = report(findings, "gobbench reproduce", false);
  EXPECT_THAT(text, HasSubstr("](example/figure.svg)"));
  EXPECT_THAT(text, HasSubstr("MISSED: ratio 2.50"));
  EXPECT_THAT(text, HasSubstr("FAILED: broken"));
  EXPECT_THAT(text, HasSubstr("element (1, 2) is wrong"));
}

TEST(Reproduce, KnowsEveryExperimentByName) {
  std::vector<std::string> names;
  for (const Experiment& experiment : experiments()) names.push_back(experiment.name);
  EXPECT_EQ(names, (std::vector<std::string>{"micro", "fault", "stream", "figure 9", "figure 10",
                                             "figure 11", "figure 12", "figure 13", "figure 14",
                                             "simulate validate",
                                             "simulate figure 9", "simulate figure 10",
                                             "simulate sensitivity", "simulate scale"}));
}

}  // namespace
}  // namespace gob::bench
