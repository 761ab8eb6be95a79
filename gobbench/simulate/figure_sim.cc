#include "gobbench/simulate/figure_sim.h"

#include <algorithm>
#include <cmath>

#include "gobbench/figure_results.h"
#include "gobbench/progress.h"

namespace gob::bench {

Result<Preset> SimulatedCluster::resolve() const {
  Result<Preset> found = find_preset(preset);
  if (!found) return found;
  for (const std::string& change : changes)
    if (Status s = override_parameter(*found, change); !s) return s.error();
  return found;
}

std::string SimulatedCluster::name() const {
  std::string text = preset;
  for (const std::string& change : changes) text += ", " + change;
  return text;
}

Json describe(const Preset& preset) {
  Json parameters = Json::object();
  for (const Parameter& parameter : timing_parameters()) {
    const auto source = preset.sources.find(parameter.name);
    parameters[parameter.name] = {{"value", preset.timing.*(parameter.member)},
                                  {"source", source == preset.sources.end() ? "" : source->second}};
  }
  return {{"preset", preset.name}, {"description", preset.description}, {"timing", parameters}};
}

Problem problem_of(Algorithm algorithm, std::size_t size, unsigned workers, unsigned iterations,
                   bool padded) {
  Problem problem;
  problem.algorithm = algorithm;
  problem.size = size;
  problem.stride = Matrix::stride_of(size, padded);
  problem.iterations = iterations;
  problem.block = block_lines(size, problem.stride, workers);
  return problem;
}

Result<SimulatedRun> simulate_run(const Timing& timing, const Problem& problem, unsigned workers,
                                  const ElementCosts& costs) {
  SimCluster cluster(timing, workers, containers_of(problem));
  if (Status s = cluster.run(programs_of(problem, workers, costs)); !s) return s.error();
  SimulatedRun run;
  run.parallel_ns = cluster.measured_ns();
  for (unsigned node = 0; node < workers; ++node) {
    run.faults += cluster.node(node).counters().faults;
    run.messages += cluster.node(node).counters().messages_out;
    run.pages += cluster.node(node).counters().pages_in;
  }
  return run;
}

SimTime simulate_sequential(const Timing& timing, const Problem& problem) {
  const auto programs = programs_of(problem, 1, element_costs(timing, problem, 1));
  return computing_ns(*programs.front());
}

Result<Outcome> simulate_figure(const SimulatedFigureOptions& options) {
  const Result<Preset> preset = options.cluster.resolve();
  if (!preset) return preset.error();
  Progress progress("simulated " + preset->name, options.sizes.size() * options.nodes.size());
  std::vector<FigureRow> rows;
  const std::string source = "simulated " + options.cluster.name();
  for (const unsigned nodes : options.nodes)
    for (const std::size_t size : options.sizes) {
      progress.step(std::to_string(size) + " lines on " + std::to_string(nodes) + " nodes");
      const Problem problem =
          problem_of(options.algorithm, size, nodes, options.iterations, options.padded);
      const double sequential =
          static_cast<double>(simulate_sequential(preset->timing, problem)) * 1e-6;
      const Result<SimulatedRun> run = simulate_run(preset->timing, problem, nodes,
                                                    element_costs(preset->timing, problem, nodes));
      if (!run) return run.error();
      const double parallel = static_cast<double>(run->parallel_ns) * 1e-6;
      rows.push_back({source, size, nodes, sequential, parallel, sequential / parallel});
    }
  Outcome outcome = figure_outcome(options.algorithm, source, rows);
  outcome.parameters = describe(*preset);
  outcome.parameters["sizes"] = options.sizes;
  outcome.parameters["nodes"] = options.nodes;
  outcome.parameters["padded"] = options.padded;
  if (options.algorithm == Algorithm::kJacobi)
    outcome.parameters["iterations"] = options.iterations;
  outcome.notes = {
      "simulated: the real protocol core, stream detector and barriers, under a model of time; no "
      "number was fitted to the paper's",
      "the cluster: " + preset->description, paper_reading(options.algorithm)};
  return outcome;
}

Result<Outcome> simulate_sensitivity(const SensitivityOptions& options) {
  const Result<Preset> preset = options.cluster.resolve();
  if (!preset) return preset.error();
  const Problem problem =
      problem_of(options.algorithm, options.size, options.nodes, options.iterations, false);
  const auto speed_up = [&](const Timing& timing) -> Result<double> {
    const Result<SimulatedRun> run =
        simulate_run(timing, problem, options.nodes, element_costs(timing, problem, options.nodes));
    if (!run) return run.error();
    return static_cast<double>(simulate_sequential(timing, problem)) /
           static_cast<double>(run->parallel_ns);
  };
  Progress progress("sensitivity", timing_parameters().size() * 2 + 1);
  progress.step("as it is");
  const Result<double> base = speed_up(preset->timing);
  if (!base) return base.error();

  Table table({{"parameter", "parameter"},
               {"value", "value", 2},
               {"halved", "speed-up if halved", 2},
               {"doubled", "speed-up if doubled", 2},
               {"source", "source of the value"}});
  struct Row {
    const Parameter* parameter;
    double halved;
    double doubled;
    [[nodiscard]] double span() const { return std::abs(doubled - halved); }
  };
  std::vector<Row> rows;
  for (const Parameter& parameter : timing_parameters()) {
    const double value = preset->timing.*(parameter.member);
    if (value == 0) continue;
    std::array<double, 2> results{};
    for (const double factor : {0.5, 2.0}) {
      progress.step(parameter.name);
      Timing changed = preset->timing;
      changed.*(parameter.member) = value * factor;
      const Result<double> result = speed_up(changed);
      if (!result) return result.error();
      results[factor > 1 ? 1 : 0] = *result;
    }
    rows.push_back({&parameter, results[0], results[1]});
  }
  std::stable_sort(rows.begin(), rows.end(),
                   [](const Row& a, const Row& b) { return a.span() > b.span(); });
  Panel panel{"", "", "change of the speed-up", false, false, {}, {}};
  for (const Row& row : rows) {
    const auto source = preset->sources.find(row.parameter->name);
    table.add({std::string(row.parameter->name), preset->timing.*(row.parameter->member),
               row.halved, row.doubled,
               source == preset->sources.end() ? std::string() : source->second});
    if (panel.bars.size() < 12) panel.bars.push_back({row.parameter->name, row.span()});
  }
  const std::string what = options.algorithm == Algorithm::kMgs ? "MGS" : "Jacobi";
  const std::string title = "What the simulated speed-up of " + what +
                            " hangs on: " + std::to_string(options.size) + "² on " +
                            std::to_string(options.nodes) + " nodes, " + options.cluster.name();
  std::array<char, 64> base_text{};
  std::snprintf(base_text.data(), base_text.size(), "%.2f", *base);
  Outcome outcome;
  outcome.folder = "simulate_sensitivity";
  outcome.title = title;
  outcome.table = std::move(table);
  outcome.notes = {
      "with every parameter as it is, the simulated speed-up is " + std::string(base_text.data()),
      "one parameter is changed at a time; sorted by how much that changes"};
  outcome.parameters = describe(*preset);
  outcome.parameters["size"] = options.size;
  outcome.parameters["nodes"] = options.nodes;
  outcome.plot = {title, {std::move(panel)}};
  return outcome;
}

Outcome list_presets() {
  Table table({{"parameter", "parameter"},
               {"preset", "preset"},
               {"value", "value", 2},
               {"meaning", "meaning"},
               {"source", "source"}});
  for (const Parameter& parameter : timing_parameters())
    for (const Preset& preset : presets())
      table.add({std::string(parameter.name), preset.name, preset.timing.*(parameter.member),
                 std::string(parameter.meaning), preset.sources.at(parameter.name)});
  Outcome outcome;
  outcome.title = "Presets of simulated clusters";
  for (const Preset& preset : presets())
    outcome.notes.push_back(preset.name + ": " + preset.description);
  outcome.table = std::move(table);
  return outcome;
}

}  // namespace gob::bench
