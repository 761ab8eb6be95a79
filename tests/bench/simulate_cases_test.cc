// Timings and presets, the access patterns, and how the protocol scales, on small clusters.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gobbench/figure_results.h"
#include "gobbench/simulate/calibrate.h"
#include "gobbench/simulate/figure_sim.h"
#include "gobbench/simulate/scale_cases.h"

namespace gob::bench {
namespace {

using ::testing::HasSubstr;

Timing timing_of(const char* preset) { return find_preset(preset)->timing; }

TEST(Presets, GiveEveryParameterAValueAndASource) {
  for (const Preset& preset : presets())
    for (const Parameter& parameter : timing_parameters()) {
      const auto source = preset.sources.find(parameter.name);
      ASSERT_NE(source, preset.sources.end()) << preset.name << " " << parameter.name;
      EXPECT_FALSE(source->second.empty()) << preset.name << " " << parameter.name;
    }
}

TEST(Presets, AreTheClustersTheyAreNamedAfter) {
  EXPECT_EQ(timing_of("gige-2002").gigabits_a_second, 1);
  EXPECT_EQ(timing_of("gige-2002").cores, 1);
  EXPECT_EQ(timing_of("tcp-25g").gigabits_a_second, 25);
  EXPECT_EQ(timing_of("roce-100g").gigabits_a_second, 100);
  const Result<Preset> none = find_preset("abacus");
  ASSERT_FALSE(none);
  EXPECT_THAT(none.error().message(), HasSubstr("gige-2002, tcp-25g, roce-100g"));
}

TEST(Presets, TakeOtherValuesByName) {
  Preset preset = *find_preset("tcp-25g");
  ASSERT_TRUE(override_parameter(preset, "link_us=12.5"));
  EXPECT_EQ(preset.timing.link_us, 12.5);
  EXPECT_EQ(preset.sources["link_us"], "command line");
  for (const char* wrong : {"link_us", "link_us=", "link_us=fast", "link_us=-1", "link_us=inf",
                            "link_us=nan", "colour=3", "=3", "", "link_us=1e99", "link_us=1 "}) {
    const Status status = override_parameter(preset, wrong);
    ASSERT_FALSE(status) << wrong;
    EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
  }
}

TEST(ElementTime, IsTheProcessorsInCacheAndTheSlowerOfBothBeyond) {
  Timing timing;
  timing.flop_ns = 2;
  timing.divide_ns = 30;
  timing.memory_byte_ns = 1;
  timing.cache_mib = 1;
  constexpr double kMiB = 1024 * 1024;
  EXPECT_EQ(element_ns(timing, {4, 0, 16}, kMiB), 8);
  EXPECT_EQ(element_ns(timing, {4, 0, 16}, kMiB + 1), 16);
  EXPECT_EQ(element_ns(timing, {4, 1, 16}, kMiB + 1), 38);
}

// One line is one page: what is missed can be counted by hand.
TEST(Patterns, JacobiReadsOneLineOfTheOtherAndTakesItsOwnBack) {
  Timing timing = timing_of("tcp-25g");
  timing.read_ahead_pages = 0;
  constexpr unsigned kIterations = 7;
  const Problem problem = problem_of(Algorithm::kJacobi, 512, 2, kIterations, false);
  ASSERT_EQ(problem.block, 256u);
  const Result<SimulatedRun> run =
      simulate_run(timing, problem, 2, element_costs(timing, problem, 2));
  ASSERT_TRUE(run) << run.error().message();
  // In each iteration each worker reads one line that is not its own, and, but for the first time,
  // writes a line that the other has read.
  EXPECT_EQ(run->faults, 2u * kIterations + 2u * (kIterations - 1));
  EXPECT_EQ(run->pages, 2u * kIterations);
}

TEST(Patterns, MgsSendsEachVectorOnceToTheOther) {
  Timing timing = timing_of("tcp-25g");
  timing.read_ahead_pages = 0;
  const Problem problem = problem_of(Algorithm::kMgs, 512, 2, 0, false);
  const Result<SimulatedRun> run =
      simulate_run(timing, problem, 2, element_costs(timing, problem, 2));
  ASSERT_TRUE(run) << run.error().message();
  EXPECT_EQ(run->pages, 511u);  // the last one corrects no other
  EXPECT_EQ(run->faults, 511u);
}

TEST(Patterns, ShareTheWorkOfTheSequentialProgram) {
  for (const Algorithm algorithm : {Algorithm::kJacobi, Algorithm::kMgs}) {
    const ElementCosts costs{1, 1, 1, 1};
    SimTime together = 0;
    const Problem problem = problem_of(algorithm, 96, 3, 5, false);
    for (const auto& program : programs_of(problem, 3, costs)) together += computing_ns(*program);
    EXPECT_EQ(together, computing_ns(*programs_of(problem, 1, costs).front()));
    const SimTime by_hand =
        algorithm == Algorithm::kJacobi ? 5 * (96 * 96 + 94 * 96) : 96 * 96 + 96 * (96 * 95 / 2);
    EXPECT_EQ(together, by_hand);
  }
}

TEST(Patterns, WithoutAnyCostOfCommunicationTheSpeedUpIsIdeal) {
  Timing timing;
  timing.cores = 2;
  timing.flop_ns = 1;
  const Problem problem = problem_of(Algorithm::kMgs, 512, 4, 0, false);
  const Result<SimulatedRun> run =
      simulate_run(timing, problem, 4, element_costs(timing, problem, 4));
  ASSERT_TRUE(run) << run.error().message();
  const double speed_up = static_cast<double>(simulate_sequential(timing, problem)) /
                          static_cast<double>(run->parallel_ns);
  EXPECT_GT(speed_up, 3.9);  // but for vectors that do not divide by four
  EXPECT_LE(speed_up, 4.0);
}

TEST(Patterns, FalseSharingOfSmallLinesCostsMoreThanPages) {
  const Timing timing = timing_of("tcp-25g");
  const Problem packed = problem_of(Algorithm::kMgs, 64, 3, 0, false);
  const Problem padded = problem_of(Algorithm::kMgs, 64, 3, 0, true);
  const auto time = [&](const Problem& problem) {
    const Result<SimulatedRun> run =
        simulate_run(timing, problem, 3, element_costs(timing, problem, 3));
    EXPECT_TRUE(run) << run.error().message();
    return run->parallel_ns;
  };
  EXPECT_GT(time(packed), 2 * time(padded));
}

ScaleOptions small_scale() {
  ScaleOptions options;
  options.pages = 64 * 64 * kStripePages / 16;
  options.misses = 64;
  return options;
}

TEST(Scale, AMissByThreeNodesCostsTheSameOnAnyNumberOfNodes) {
  const Timing timing = timing_of("tcp-25g");
  const Result<IndependentPages> few = independent_pages(timing, 4, small_scale());
  ASSERT_TRUE(few) << few.error().message();
  double directory = few->directory_bytes_max;
  for (const unsigned nodes : {8u, 32u, 64u}) {
    const Result<IndependentPages> many = independent_pages(timing, nodes, small_scale());
    ASSERT_TRUE(many) << many.error().message();
    EXPECT_NEAR(many->three_hops.p50_us, few->three_hops.p50_us, 0.1 * few->three_hops.p50_us);
    EXPECT_LT(many->directory_bytes_max, directory);
    EXPECT_LT(many->messages_a_miss, 4.5);  // get, forward, page, confirm
    EXPECT_LT(many->manager_load_max_over_mean, 2.5);
    directory = many->directory_bytes_max;
  }
}

TEST(Scale, CopysetsAreExactUpTo48NodesAndCoarseBeyond) {
  const Timing timing = timing_of("tcp-25g");
  const auto messages = [&](unsigned nodes) {
    const Result<SharedPages> found = shared_pages(timing, nodes, 4, 2);
    EXPECT_TRUE(found) << found.error().message();
    return found->messages_a_write;
  };
  EXPECT_NEAR(messages(16), messages(48), 2);
  EXPECT_GT(messages(192), 1.5 * messages(48));
}

TEST(Scale, AWriteToWhatAllReadTellsAll) {
  const Timing timing = timing_of("tcp-25g");
  const Result<SharedPages> found = shared_pages(timing, 32, 32, 2);
  ASSERT_TRUE(found) << found.error().message();
  // An invalidation and an acknowledgement for each of the 30 readers, and few more.
  EXPECT_GE(found->messages_a_write, 2 * 29);
  EXPECT_LE(found->messages_a_write, 2 * 31 + 6);
}

TEST(SimulatedFigure, HasARowForEachSizeAndNumberOfNodesAndThePapersReading) {
  SimulatedFigureOptions options;
  options.algorithm = Algorithm::kMgs;
  options.sizes = {64, 128};
  options.nodes = {1, 2};
  const Result<Outcome> outcome = simulate_figure(options);
  ASSERT_TRUE(outcome) << outcome.error().message();
  EXPECT_EQ(outcome->folder, "figure_10");
  ASSERT_EQ(outcome->table.rows().size(), 5u);
  EXPECT_EQ(outcome->table.rows()[0][0], Cell(std::string("simulated gige-2002")));
  EXPECT_EQ(outcome->table.rows()[4][0], Cell(std::string(kPaper)));
  EXPECT_EQ(outcome->table.rows()[4][5], Cell(5.2));
  // The same program on one node costs no more than its barriers.
  EXPECT_LE(std::get<double>(outcome->table.rows()[0][5]), 1.0);
}

TEST(Calibration, FindsThatEveryKernelCallTakesTime) {
  const Result<FrameCosts> frames = measure_frames({});
  ASSERT_TRUE(frames) << frames.error().message();
  for (const double us : {frames->map_us, frames->protect_us, frames->unmap_us, frames->load_us}) {
    EXPECT_GT(us, 0);
  }
  const Problem problem = problem_of(Algorithm::kJacobi, 64, 1, 3, false);
  const Result<ElementCosts> costs = measure_elements(problem, 1);
  ASSERT_TRUE(costs) << costs.error().message();
  EXPECT_GT(costs->jacobi_copy, 0);
  EXPECT_GT(costs->jacobi_compute, 0);
}

}  // namespace
}  // namespace gob::bench
