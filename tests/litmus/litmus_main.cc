// litmus: runs the litmus tests on private clusters of real daemons. Parses, calls, prints.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>

#include "gobbench/progress.h"
#include "gobbench/publish.h"
#include "tests/litmus/report.h"

namespace {

using namespace gob;

enum ExitStatus : int { kOk = 0, kFailed = 1, kUsage = 2, kForbidden = 3, kControl = 4 };

struct Options {
  std::uint64_t runs = 100'000;
  std::uint64_t seed = 0;
  std::vector<std::string> tests;
  std::string gobd;
  std::string transport = "auto";
  bool segments = false;
  bool no_control = false;
  bench::PublishOptions publish;
};

void define(CLI::App& app, Options& options) {
  app.description(
      "Runs litmus tests (SB, MP, LB, IRIW, ...) on private clusters of real gobd processes and\n"
      "counts every outcome. Between nodes, outcomes that sequential consistency forbids must not\n"
      "occur; threads that share a node have x86-TSO.");
  app.footer(
      "Examples:\n"
      "  litmus --results results            the whole suite, filed under results/litmus\n"
      "  litmus --tests SB,MP --runs 5000    two tests, quickly\n"
      "  litmus --seed 42                    the same plan of runs again\n"
      "A seed repeats what is run and where pages lie, not how the machine interleaves it.\n"
      "Exit codes: 0 no forbidden outcome, 1 could not be run, 2 wrong usage, 3 forbidden\n"
      "outcomes, 4 the control saw no weak outcome, so that the others prove nothing.");
  app.add_option("--runs", options.runs, "Runs of each test")
      ->check(CLI::Range(1u, 1'000'000'000u))
      ->capture_default_str();
  app.add_option("--seed", options.seed, "Of the plan of runs; chosen and shown if not given");
  app.add_option("--tests", options.tests, "Names of tests; all without")->delimiter(',');
  app.add_option("--gobd", options.gobd, "The daemon to test")
      ->required()
      ->check(CLI::ExistingFile);
  app.add_option("--transport", options.transport, "Between the nodes: auto, verbs or tcp")
      ->check(CLI::IsMember({"auto", "verbs", "tcp"}))
      ->capture_default_str();
  app.add_flag("--segments", options.segments,
               "Programs share System V segments that the patched kernel links, and nothing of libgob");
  app.add_flag("--no-control", options.no_control,
               "Leave out the test of one node's store buffers, which an emulator does not show");
  app.add_flag("--json", options.publish.json, "Print JSON instead of a table");
  app.add_option("--results", options.publish.results_dir, "Directory to file the table in");
}

Result<std::vector<litmus::Finished>> run_all(const Options& options) {
  std::vector<litmus::Setup> setups = litmus::all_setups();
  for (const std::string& name : options.tests)
    if (std::ranges::none_of(setups, [&](const auto& s) { return s.program.name == name; }))
      return make_error(ErrorCode::kInvalidArgument, "there is no test '" + name + "'");
  if (!options.tests.empty())
    std::erase_if(setups, [&](const litmus::Setup& setup) {
      return std::ranges::find(options.tests, setup.program.name) == options.tests.end();
    });
  if (options.no_control) std::erase_if(setups, [](const auto& each) { return each.is_control(); });
  // One cluster of each size; the order of the table stays the suite's.
  std::vector<litmus::Finished> finished(setups.size());
  bench::Progress progress("Litmus tests", setups.size());
  for (const unsigned nodes : {2u, 3u, 4u}) {
    std::optional<bench::Cluster> cluster;
    for (std::size_t i = 0; i < setups.size(); ++i) {
      if (setups[i].nodes != nodes) continue;
      if (!cluster) {
        bench::ClusterOptions wanted;
        wanted.nodes = nodes;
        wanted.gobd = options.gobd;
        wanted.transport = options.transport;
        Result<bench::Cluster> started = bench::Cluster::start(wanted);
        if (!started) return started.error();
        cluster.emplace(std::move(*started));
      }
      progress.step(setups[i].program.name);
      Result<litmus::Tally> tally =
          litmus::run_setup(*cluster, setups[i], options.runs, options.seed + 1'000'000 * i,
                            options.segments ? litmus::Memory::kSegments : litmus::Memory::kLibgob);
      if (!tally) return tally.error();
      finished[i] = {setups[i], std::move(*tally)};
    }
  }
  return finished;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  options.publish.results_dir.clear();
  options.publish.command = "litmus";
  for (int i = 1; i < argc; ++i) options.publish.command += std::string(" ") + argv[i];
  options.seed = static_cast<std::uint64_t>(
      std::chrono::system_clock::now().time_since_epoch().count() % 1'000'000'007);
  CLI::App app;
  define(app, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kOk : kUsage;
  }
  const Result<std::vector<litmus::Finished>> finished = run_all(options);
  if (!finished) {
    std::fprintf(stderr, "litmus: %s\nlitmus: the seed was %llu\n",
                 finished.error().message().c_str(), static_cast<unsigned long long>(options.seed));
    return finished.error().code == ErrorCode::kInvalidArgument ? kUsage : kFailed;
  }
  const bench::Outcome outcome = litmus::report(*finished, options.runs, options.seed);
  bench::print(outcome, options.publish);
  if (const Status written = bench::write_results(outcome, options.publish); !written) {
    std::fprintf(stderr, "litmus: %s\n", written.error().message().c_str());
    return kFailed;
  }
  bool forbidden = false;
  bool blind = false;
  for (const auto& [setup, tally] : *finished) {
    const litmus::Verdict verdict = judge(setup, tally);
    forbidden = forbidden || verdict.forbidden != 0;
    blind = blind || (setup.is_control() && verdict.weak == 0);
  }
  if (forbidden || blind)
    std::fprintf(stderr, "litmus: %s; repeat with --seed %llu\n",
                 forbidden ? "forbidden outcomes were seen"
                           : "the control saw no weak outcome: give it more runs or more cores",
                 static_cast<unsigned long long>(options.seed));
  return forbidden ? kForbidden : blind ? kControl : kOk;
}
