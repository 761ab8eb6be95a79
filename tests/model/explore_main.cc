// explore: searches every state of a small cluster, or replays a scenario step by step.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>

#include "tests/model/explorer.h"

namespace {

using gob::model::Bounds;
using gob::sim::Scenario;

int replay_file(const std::string& path) {
  std::ifstream file(path);
  if (!file) {
    std::cerr << "explore: cannot open the scenario " << path << "\n";
    return 2;
  }
  const auto scenario = gob::sim::read_scenario(file);
  if (!scenario) {
    std::cerr << "explore: " << path << ": " << scenario.error().message() << "\n";
    return 2;
  }
  const std::string violation = gob::sim::replay(scenario.value(), &std::cout);
  if (violation.empty()) std::cout << "no violation\n";
  const bool as_expected = scenario.value().expect.empty()
                               ? violation.empty()
                               : violation.find(scenario.value().expect) != std::string::npos;
  return as_expected ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Explores all interleavings of the coherence core in a small cluster"};
  gob::sim::WorldConfig config;
  config.geometry = {3, 1, 1, 1};
  Bounds bounds;
  std::string replay_path;
  std::string out_path = "counterexample.scenario";
  app.add_option("--nodes", config.geometry.nodes)->check(CLI::Range(1, 4));
  app.add_option("--pages", config.geometry.pages_each)->check(CLI::Range(1, 4));
  app.add_option("--stride", config.geometry.stride, "1: one stripe; 64: a stripe a page");
  app.add_option("--threads", config.threads, "programs' threads a node")->check(CLI::Range(1, 3));
  app.add_option("--reads", bounds.reads, "of each node")->check(CLI::Range(0, 3));
  app.add_option("--writes", bounds.writes, "of each node")->check(CLI::Range(0, 3));
  app.add_option("--accesses", bounds.accesses, "in all")->check(CLI::Range(0, 15));
  app.add_option("--flushes", bounds.flushes)->check(CLI::Range(0, 15));
  app.add_option("--expiries", bounds.expiries)->check(CLI::Range(0, 15));
  app.add_option("--io-failures", bounds.io_failures)->check(CLI::Range(0, 15));
  app.add_option("--crashes", bounds.crashes)->check(CLI::Range(0, 15));
  app.add_option("--restarts", bounds.restarts)->check(CLI::Range(0, 15));
  app.add_option("--leaves", bounds.leaves)->check(CLI::Range(0, 15));
  app.add_flag("--runs", bounds.runs, "accesses to all pages as one run");
  app.add_flag("--ahead", bounds.ahead, "accesses that ask for the other pages ahead");
  app.add_option("--budgets", config.budgets, "frames of each node");
  app.add_option("--hold", config.core.hold_grants);
  app.add_option("--swap", config.core.swap);
  app.add_option("--max-states", bounds.max_states);
  app.add_option("--out", out_path, "where a counterexample is written");
  app.add_option("--replay", replay_path, "a scenario file to replay instead");
  CLI11_PARSE(app, argc, argv);
  if (!replay_path.empty()) return replay_file(replay_path);
  if (!config.budgets.empty() && config.budgets.size() != config.geometry.nodes) {
    std::cerr << "explore: --budgets needs a number for each of the " << config.geometry.nodes
              << " nodes\n";
    return 2;
  }

  const auto began = std::chrono::steady_clock::now();
  gob::model::Explorer explorer(config, bounds);
  const gob::model::Report report = explorer.run();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  std::printf(
      "states %llu  transitions %llu  depth %u  node-states %zu  link-states %zu  seconds %.1f  "
      "%s\n",
      static_cast<unsigned long long>(report.states),
      static_cast<unsigned long long>(report.transitions), report.depth, report.node_states,
      report.link_states, took.count(), report.complete ? "complete" : "incomplete");
  if (!report.violation.empty()) {
    std::cout << "violation: " << report.violation << "\n";
    Scenario scenario = report.counterexample;
    std::ofstream file(out_path);
    gob::sim::write_scenario(scenario, file);
    std::cout << "scenario of " << scenario.events.size() << " events written to " << out_path
              << "; the trace:\n";
    gob::sim::replay(scenario, &std::cout);
    return 1;
  }
  if (!report.complete) {
    std::cout << "the bound of " << bounds.max_states << " states was reached\n";
    return 1;
  }
  return 0;
}
