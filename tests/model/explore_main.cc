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

// Everything that a core can be made to do where nodes do not leave and containers stay.
constexpr const char* kAllVerbs[] = {
    "Get",       "Grab",   "ForwardGet",   "ForwardGrab",  "Invalidate", "InvalidateAck",
    "Page",      "Grant",  "Confirm",      "Flush",        "FlushAlone", "FlushDiscard",
    "FlushDone", "Inject", "InjectReply+", "InjectReply-", "Marker",     "Report",
    "ReportEnd", "Refuse", "swap-out",     "swap-in",      "peer-loss",  "refused-lost"};

// A bound that may be without limit: a number or `any`.
CLI::Option* add_bound(CLI::App& app, const std::string& name, unsigned& bound, unsigned any,
                       const std::string& help) {
  const auto parse = [&bound, any](const std::string& text) {
    if (text == "any") {
      bound = any;
      return;
    }
    std::size_t used = 0;
    unsigned long number = 0;
    try {
      number = std::stoul(text, &used);
    } catch (const std::exception&) {
      used = 0;
    }
    if (used != text.size() || number >= any)
      throw CLI::ValidationError("'" + text + "' is neither a number below " + std::to_string(any) +
                                 " nor 'any'");
    bound = static_cast<unsigned>(number);
  };
  return app.add_option_function<std::string>(name, parse, help + ": a number, or any")
      ->type_name("BOUND");
}

std::string missing_verbs(const std::set<std::string>& seen) {
  std::string missing;
  for (const char* verb : kAllVerbs)
    if (!seen.contains(verb)) missing += std::string(" ") + verb;
  return missing;
}

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
  bool all_verbs = false;
  std::string replay_path;
  std::string out_path = "counterexample.scenario";
  app.add_option("--nodes", config.geometry.nodes)->check(CLI::Range(1, 4));
  app.add_option("--pages", config.geometry.pages_each)->check(CLI::Range(1, 4));
  app.add_option("--stride", config.geometry.stride, "1: one stripe; 64: a stripe a page");
  app.add_option("--threads", config.threads, "programs' threads a node")->check(CLI::Range(1, 3));
  using gob::model::kAny;
  using gob::model::kAnyOfNode;
  add_bound(app, "--reads", bounds.reads, kAnyOfNode, "reads of each node");
  add_bound(app, "--writes", bounds.writes, kAnyOfNode, "writes of each node");
  add_bound(app, "--accesses", bounds.accesses, kAny, "reads and writes in all");
  add_bound(app, "--flushes", bounds.flushes, kAny, "pages flushed from outside");
  add_bound(app, "--expiries", bounds.expiries, kAny, "waits given up");
  add_bound(app, "--io-failures", bounds.io_failures, kAny, "swap-outs and swap-ins that fail");
  add_bound(app, "--crashes", bounds.crashes, kAny, "nodes that die");
  add_bound(app, "--cuts", bounds.cuts, kAny,
            "connections that break: the cluster goes on without one of the two nodes");
  add_bound(app, "--restarts", bounds.restarts, kAny, "nodes that come back, empty");
  add_bound(app, "--leaves", bounds.leaves, kAny, "departures in good order, asked for");
  add_bound(app, "--write-backs", bounds.write_backs, kAny, "pages of files written back");
  add_bound(app, "--discards", bounds.discards, kAny, "pages of files discarded");
  add_bound(app, "--syncs", bounds.syncs, kAny,
            "syncs of the file, and lists of what is in memory");
  app.add_flag("--files{1}", config.files, "the container is a file on node 0, or `home`");
  app.add_option("--home", config.home, "the node that has the file")->check(CLI::Range(0, 3));
  app.add_flag("--runs", bounds.runs, "accesses to all pages as one run");
  app.add_flag("--ahead", bounds.ahead, "accesses that ask for the other pages ahead");
  app.add_option("--budgets", config.budgets, "frames of each node");
  app.add_option("--hold", config.core.hold_grants);
  app.add_option("--swap", config.core.swap);
  app.add_option("--max-states", bounds.max_states);
  app.add_option("--out", out_path, "where a counterexample is written");
  app.add_flag("--all-verbs", all_verbs, "fail unless every verb and message was met");
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
  std::cout << "met:";
  for (const std::string& verb : report.seen) std::cout << ' ' << verb;
  std::cout << "\n";
  if (!report.violation.empty()) {
    std::cout << "violation: " << report.violation << "\n";
    Scenario scenario = report.counterexample;
    std::ofstream file(out_path);
    gob::sim::write_scenario(scenario, file);
    std::cout << "scenario of " << scenario.events.size() << " events written to " << out_path
              << "; the trace:\n";
    if (gob::sim::replay(scenario, &std::cout).empty())
      std::cout << "the scenario shows no violation: the explorer and tests/sim/world.cc differ\n";
    return 1;
  }
  if (!report.complete) {
    std::cout << "the bound of " << bounds.max_states << " states was reached\n";
    return 1;
  }
  if (const std::string missing = missing_verbs(report.seen); all_verbs && !missing.empty()) {
    std::cout << "never met:" << missing << "\n";
    return 1;
  }
  return 0;
}
