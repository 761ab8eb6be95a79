#include "gobbench/simulate/validate.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "gobbench/fault.h"
#include "gobbench/figure.h"
#include "gobbench/page_pattern.h"
#include "gobbench/progress.h"
#include "gobbench/simulate/calibrate.h"
#include "gobbench/simulate/figure_sim.h"
#include "gobbench/worker.h"

namespace gob::bench {
namespace {

constexpr unsigned kNodes = 2;
constexpr unsigned kFaultRounds = 4;
constexpr unsigned kBarriers = 500;
constexpr ContainerId kContainer{1};

struct Comparison {
  std::string what;
  std::string unit;
  double measured = 0;
  double simulated = 0;

  [[nodiscard]] double error() const { return simulated / measured - 1; }
};

// Touches the pages of one container in the order that `gobbench fault` takes.
class TouchProgram final : public Program {
 public:
  TouchProgram(unsigned pages, Access access) : access_(access) {
    if (pages != 0) order_ = page_order(pages, true, 1);
  }
  ProgramStep next() override {
    ProgramStep step;
    if (at_ == order_.size()) return step;
    step.kind = ProgramStep::Kind::kWork;
    step.touch({{kContainer, PageIndex{order_[at_++]}}, 1, access_});
    return step;
  }

 private:
  std::vector<std::uint32_t> order_;
  Access access_;
  std::size_t at_ = 0;
};

// The median wait of an access to pages that the other node wrote, and, for an upgrade, this one
// read.
Result<double> simulate_fault_us(const Timing& timing, unsigned pages, bool upgrade) {
  SimCluster cluster(timing, kNodes, {{kContainer, pages, Epoch{1}, kNoNode}});
  for (unsigned page = 0; page < pages; ++page) {
    const PageSet one = PageSet::of({kContainer, PageIndex{page}});
    cluster.settle(NodeId{1}, one, Access::kWrite);
    if (upgrade) cluster.settle(NodeId{0}, one, Access::kRead);
  }
  std::vector<std::unique_ptr<Program>> programs;
  programs.push_back(
      std::make_unique<TouchProgram>(pages, upgrade ? Access::kWrite : Access::kRead));
  programs.push_back(std::make_unique<TouchProgram>(0, Access::kRead));
  if (Status s = cluster.run(std::move(programs)); !s) return s.error();
  std::vector<SimTime> ns;
  for (const MissSample& miss : cluster.misses(0)) ns.push_back(miss.ns);
  if (ns.empty()) return make_error(ErrorCode::kProtocol, "simulation: no access was a fault");
  std::sort(ns.begin(), ns.end());
  return static_cast<double>(ns[ns.size() / 2]) * 1e-3;
}

class BarrierProgram final : public Program {
 public:
  ProgramStep next() override {
    ProgramStep step;
    if (done_ <= kBarriers)
      step.kind = done_ == 0 ? ProgramStep::Kind::kStartClock : ProgramStep::Kind::kBarrier;
    ++done_;
    return step;
  }

 private:
  unsigned done_ = 0;
};

Result<double> simulate_barrier_us(const Timing& timing) {
  SimCluster cluster(timing, kNodes, {});
  std::vector<std::unique_ptr<Program>> programs;
  for (unsigned n = 0; n < kNodes; ++n) programs.push_back(std::make_unique<BarrierProgram>());
  if (Status s = cluster.run(std::move(programs)); !s) return s.error();
  return static_cast<double>(cluster.measured_ns()) * 1e-3 / kBarriers;
}

Result<double> measure_barrier_us(const Session& session) {
  ClusterOptions wanted;
  wanted.nodes = kNodes;
  wanted.pin = true;
  Result<Cluster> cluster = session.cluster(wanted);
  if (!cluster) return cluster.error();
  Result<std::vector<Worker>> workers = start_workers(*cluster, kNodes);
  if (!workers) return workers.error();
  const Json request{{"do", "barrier"},
                     {"barrier", unique_name("validate")},
                     {"count", kNodes},
                     {"rounds", kBarriers}};
  const Result<std::vector<Json>> replies = call_all(*workers, std::vector<Json>(kNodes, request));
  if (!replies) return replies.error();
  double ns = 0;
  for (const Json& reply : *replies) ns = std::max(ns, reply.at("ns").get<double>());
  return ns * 1e-3 / kBarriers;
}

// A column of the row that has these words and numbers in its first columns.
Result<double> look_up(const Table& table, const std::vector<Cell>& begin, const std::string& key) {
  for (const auto& row : table.rows()) {
    if (!std::equal(begin.begin(), begin.end(), row.begin())) continue;
    for (std::size_t c = 0; c < table.columns().size(); ++c)
      if (table.columns()[c].key == key)
        if (const auto* value = std::get_if<double>(&row[c])) return *value;
  }
  return make_error(ErrorCode::kNotFound, "validation: the measurement has no " + key);
}

Status compare_faults(const Session& session, const ValidateOptions& options, const Timing& timing,
                      std::vector<Comparison>& out) {
  FaultOptions fault;
  fault.nodes = {kNodes};
  fault.samples = options.samples;
  fault.rounds = kFaultRounds;
  fault.pin = true;
  const Result<Outcome> real = run_fault(session, fault);
  if (!real) return real.error();
  for (const bool upgrade : {false, true}) {
    const char* name = upgrade ? "upgrade" : "read miss";
    const Result<double> measured =
        look_up(real->table, {std::string(name), std::int64_t{kNodes}, std::int64_t{1}}, "p50_us");
    if (!measured) return measured.error();
    const Result<double> simulated =
        simulate_fault_us(timing, options.samples / kFaultRounds, upgrade);
    if (!simulated) return simulated.error();
    out.push_back({std::string(name) + ", p50", "µs", *measured, *simulated});
  }
  return {};
}

Status compare_programs(const Session& session, const ValidateOptions& options,
                        const Timing& timing, Algorithm algorithm, std::vector<Comparison>& out) {
  FigureOptions figure;
  figure.algorithm = algorithm;
  figure.sizes = options.sizes;
  figure.nodes = {kNodes};
  figure.iterations = options.iterations;
  figure.runs = options.runs;
  const Result<Outcome> real = run_figure(session, figure);
  if (!real) return real.error();
  for (const std::size_t size : options.sizes) {
    const Result<double> measured =
        look_up(real->table,
                {std::string("measured"), static_cast<std::int64_t>(size), std::int64_t{kNodes}},
                "parallel_ms");
    if (!measured) return measured.error();
    const Problem problem = problem_of(algorithm, size, kNodes, options.iterations, false);
    const Result<ElementCosts> costs = measure_elements(problem, kNodes);
    if (!costs) return costs.error();
    const Result<SimulatedRun> run = simulate_run(timing, problem, kNodes, *costs);
    if (!run) return run.error();
    out.push_back({std::string(algorithm == Algorithm::kJacobi ? "Jacobi " : "MGS ") +
                       std::to_string(size) + "²",
                   "ms", *measured, static_cast<double>(run->parallel_ns) * 1e-6});
  }
  return {};
}

Outcome outcome_of(const Session& session, const ValidateOptions& options, const Preset& alone,
                   const Preset& preset, const std::vector<Comparison>& comparisons) {
  Table table({{"what", "what"},
               {"unit", "unit"},
               {"measured", "measured", 1},
               {"simulated", "simulated", 1},
               {"error_percent", "error %", 0}});
  Panel panel{"simulated over measured: 1 is right", "", "ratio", false, false, {}, {}};
  double worst = 0;
  for (const Comparison& c : comparisons) {
    table.add({c.what, c.unit, c.measured, c.simulated, c.error() * 100});
    panel.bars.push_back({c.what, c.simulated / c.measured});
    worst = std::max(worst, std::abs(c.error()));
  }
  Outcome outcome;
  outcome.folder = "simulate_validate";
  outcome.title = "The simulation against this machine: two nodes, a core each";
  outcome.table = std::move(table);
  outcome.notes = {
      "every parameter was measured part by part in this run (run.json has them); nothing was "
      "fitted to the times that are compared",
      "lone accesses and barriers are simulated with parts measured one after the other "
      "(timing_alone "
      "in run.json), programs with parts measured while programs compute (timing)",
      "the largest error is " + std::to_string(static_cast<int>(worst * 100 + 0.5)) + " %",
      "nodes are gobd processes on one machine, joined by " + session.network()};
  outcome.parameters = describe(preset);
  outcome.parameters["timing_alone"] = describe(alone).at("timing");
  outcome.parameters["sizes"] = options.sizes;
  outcome.parameters["iterations"] = options.iterations;
  outcome.parameters["runs"] = options.runs;
  outcome.parameters["samples"] = options.samples;
  outcome.plot = {outcome.title, {std::move(panel)}};
  return outcome;
}

}  // namespace

Result<Outcome> simulate_validate(const Session& session, const ValidateOptions& options) {
  if (!session.is_private() || session.netns)
    return make_error(ErrorCode::kInvalidArgument,
                      "the validation measures two private nodes on loopback: leave out "
                      "--cluster-dir and --netns");
  if (usable_cpus().size() < kNodes)
    return make_error(ErrorCode::kUnsupported, "the validation needs two cores, one for each node");
  const Result<Preset> alone = calibrate(session, Beside::kNothing);
  if (!alone) return alone.error();
  const Result<Preset> preset = calibrate(session, Beside::kPrograms);
  if (!preset) return preset.error();
  std::vector<Comparison> comparisons;
  if (Status s = compare_faults(session, options, alone->timing, comparisons); !s) return s.error();
  const Result<double> barrier = measure_barrier_us(session);
  if (!barrier) return barrier.error();
  const Result<double> simulated = simulate_barrier_us(alone->timing);
  if (!simulated) return simulated.error();
  comparisons.push_back({"barrier of two programs", "µs", *barrier, *simulated});
  for (const Algorithm algorithm : {Algorithm::kJacobi, Algorithm::kMgs})
    if (Status s = compare_programs(session, options, preset->timing, algorithm, comparisons); !s)
      return s.error();
  return outcome_of(session, options, *alone, *preset, comparisons);
}

}  // namespace gob::bench
