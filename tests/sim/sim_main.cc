// sim: seeded runs of simulated clusters on the real coherence core.
#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <mutex>
#include <thread>

#include "tests/sim/simulator.h"

namespace {

using gob::sim::Scenario;
using gob::sim::SimOptions;
using gob::sim::SimResult;

struct Arguments {
  std::uint64_t seed = 1;
  std::uint64_t seeds = 1;
  std::uint64_t steps = 10'000;
  unsigned jobs = 1;
  unsigned effort = 0;
  std::string out = "sim.scenario";
  std::string replay;
  // Overrides of what a seed chooses.
  unsigned nodes = 0;
  unsigned pages = 0;
  std::string latency;
  bool crashes = false;
  bool disconnects = false;
  bool nightly = false;
  std::string record;
  bool swap = false;
  bool files = false;
  bool syncs = false;
  std::uint64_t budget = 0;
};

SimOptions options_for(const Arguments& arguments, std::uint64_t seed) {
  SimOptions options = gob::sim::options_of(seed, arguments.steps);
  gob::sim::WorldConfig& world = options.world;
  if (arguments.nodes != 0) {
    world.geometry.nodes = static_cast<std::uint16_t>(arguments.nodes);
    if (!world.budgets.empty()) world.budgets.resize(arguments.nodes, world.budgets.front());
  }
  if (arguments.pages != 0) {
    world.geometry.containers = 1;
    world.geometry.pages_each = arguments.pages;
    options.removals = false;
  }
  if (arguments.latency == "fixed") options.latency = gob::sim::Latency::kFixed;
  if (arguments.latency == "uniform") options.latency = gob::sim::Latency::kUniform;
  if (arguments.latency == "heavy-tail") options.latency = gob::sim::Latency::kHeavyTail;
  if (arguments.latency == "lopsided") options.latency = gob::sim::Latency::kLopsided;
  if (arguments.disconnects) options.disconnects = true;
  if (arguments.crashes) options.crashes = true;
  if (arguments.swap) world.core.swap = true;
  if (arguments.files) {
    // Some of the containers, or all: memory and files share the frames.
    world.files = 1 + static_cast<unsigned>(seed % world.geometry.containers);
    options.write_backs = true;
    options.syncs = arguments.syncs;
    options.io_failures = options.io_failures || seed % 3 == 0;
  }
  if (arguments.budget != 0) world.budgets.assign(world.geometry.nodes, arguments.budget);
  return options;
}

// A run repeats exactly, so the events are recorded only once it is known that they matter.
void explain(const SimOptions& options, const Arguments& arguments) {
  Scenario scenario;
  scenario.config = options.world;
  gob::sim::Simulator(options).run(&scenario.events);
  scenario.settle = gob::sim::replay(scenario, nullptr).empty();
  if (arguments.effort != 0) scenario = gob::sim::shrink(std::move(scenario), arguments.effort);
  std::ofstream file(arguments.out);
  gob::sim::write_scenario(scenario, file);
  std::ostringstream trace;
  gob::sim::replay(scenario, &trace);
  const std::string text = trace.str();
  constexpr std::size_t kTail = 6000;
  std::cout << "scenario of " << scenario.events.size() << " events written to " << arguments.out
            << "; the end of the trace:\n"
            << (text.size() <= kTail ? text
                                     : text.substr(text.find('\n', text.size() - kTail) + 1));
}

void record_first(const Arguments& arguments) {
  const SimOptions options = options_for(arguments, arguments.seed);
  Scenario scenario;
  scenario.config = options.world;
  gob::sim::Simulator(options).run(&scenario.events);
  std::ofstream file(arguments.record);
  gob::sim::write_scenario(scenario, file);
}

int run_seeds(const Arguments& arguments) {
  const auto began = std::chrono::steady_clock::now();
  std::atomic<std::uint64_t> next{0};
  std::mutex mutex;  // guards what follows
  SimResult total;
  std::uint64_t ended = 0;
  std::uint64_t first_bad = ~std::uint64_t{0};
  std::string violation;
  const auto work = [&] {
    while (true) {
      const std::uint64_t i = next++;
      if (i >= arguments.seeds) return;
      const SimOptions options = options_for(arguments, arguments.seed + i);
      const SimResult result = gob::sim::Simulator(options).run(nullptr);
      const std::lock_guard lock(mutex);
      total.steps += result.steps;
      total.accesses += result.accesses;
      total.refusals += result.refusals;
      total.rests += result.rests;
      total.digest += result.digest;  // the same in whatever order the seeds end
      if (++ended % 1000 == 0 && arguments.nightly)
        std::fprintf(stderr, "%llu of %llu seeds, %llu steps, no violation\n",
                     static_cast<unsigned long long>(ended),
                     static_cast<unsigned long long>(arguments.seeds),
                     static_cast<unsigned long long>(total.steps));
      if (!result.violation.empty()) {
        next = arguments.seeds;
        if (options.seed < first_bad) {
          first_bad = options.seed;
          violation = result.violation;
        }
      }
    }
  };
  std::vector<std::thread> threads;
  for (unsigned i = 1; i < arguments.jobs; ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  if (first_bad != ~std::uint64_t{0}) {
    const SimOptions options = options_for(arguments, first_bad);
    std::cout << "violation: " << violation << "\n" << gob::sim::to_text(options) << "\n";
    explain(options, arguments);
    return 1;
  }
  std::printf(
      "seeds %llu..%llu  steps %llu  accesses %llu  refusals %llu  rests %llu  digest %016llx\n",
      static_cast<unsigned long long>(arguments.seed),
      static_cast<unsigned long long>(arguments.seed + arguments.seeds - 1),
      static_cast<unsigned long long>(total.steps), static_cast<unsigned long long>(total.accesses),
      static_cast<unsigned long long>(total.refusals), static_cast<unsigned long long>(total.rests),
      static_cast<unsigned long long>(total.digest));
  std::fprintf(stderr, "%.1f s\n", took.count());  // apart: the rest repeats to the byte
  return 0;
}

int replay_file(const std::string& path) {
  std::ifstream file(path);
  if (!file) {
    std::cerr << "sim: cannot open the scenario " << path << "\n";
    return 2;
  }
  const auto scenario = gob::sim::read_scenario(file);
  if (!scenario) {
    std::cerr << "sim: " << path << ": " << scenario.error().message() << "\n";
    return 2;
  }
  const std::string violation = gob::sim::replay(scenario.value(), &std::cout);
  std::cout << (violation.empty() ? "no violation" : "violation: " + violation) << "\n";
  return violation.empty() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Runs simulated clusters on the coherence core; a seed repeats a run exactly"};
  Arguments arguments;
  app.add_option("--seed", arguments.seed, "the first seed");
  app.add_option("--seeds", arguments.seeds, "how many")->check(CLI::PositiveNumber);
  app.add_option("--steps", arguments.steps, "of each seed")->check(CLI::PositiveNumber);
  app.add_option("--jobs", arguments.jobs, "threads")->check(CLI::Range(1, 64));
  app.add_option("--nodes", arguments.nodes)->check(CLI::Range(1, 1024));
  app.add_option("--pages", arguments.pages)->check(CLI::Range(1, 1 << 16));
  app.add_option("--latency", arguments.latency)
      ->check(CLI::IsMember({"fixed", "uniform", "heavy-tail", "lopsided"}));
  app.add_flag("--crashes", arguments.crashes, "nodes crash and restart");
  app.add_flag("--disconnects", arguments.disconnects,
               "connections break; nodes that were cut off join again");
  app.add_flag("--swap", arguments.swap, "pages may be swapped out");
  app.add_flag("--files", arguments.files, "containers are files on the nodes' disks");
  app.add_flag("--syncs", arguments.syncs, "homes sync their files")->needs("--files");
  app.add_option("--budget", arguments.budget, "frames of each node");
  app.add_option("--shrink", arguments.effort, "replays to spend on a shorter scenario");
  app.add_option("--out", arguments.out, "where the scenario of a violation is written");
  app.add_option("--record", arguments.record, "write every event of the first seed to this file");
  app.add_flag("--nightly", arguments.nightly,
               "a run for a night: 200000 seeds of 20000 steps, on all processors; other options "
               "still count");
  app.add_option("--replay", arguments.replay, "a scenario file to replay instead");
  CLI11_PARSE(app, argc, argv);
  if (arguments.nightly) {
    if (app.count("--seeds") == 0) arguments.seeds = 200'000;
    if (app.count("--steps") == 0) arguments.steps = 20'000;
    if (app.count("--jobs") == 0)
      arguments.jobs = std::max(1u, std::thread::hardware_concurrency());
  }
  if (!arguments.replay.empty()) return replay_file(arguments.replay);
  if (!arguments.record.empty()) record_first(arguments);
  return run_seeds(arguments);
}
