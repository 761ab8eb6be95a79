#include "tests/litmus/report.h"

#include <algorithm>

namespace gob::litmus {
namespace {

std::string placement(const Setup& setup) {
  std::string words;
  for (const unsigned node : setup.node_of)
    words += (words.empty() ? "n" : " n") + std::to_string(node + 1);
  return words;
}

// "r0=0 r1=1: 612 (forbidden)", most frequent first.
std::string seen(const Setup& setup, const Tally& tally) {
  std::vector<std::pair<OutcomeCode, std::uint64_t>> order(tally.counts.begin(),
                                                           tally.counts.end());
  std::ranges::stable_sort(order, [](const auto& a, const auto& b) { return a.second > b.second; });
  const std::set<OutcomeCode> allowed = setup.allowed();
  std::string words;
  for (const auto& [code, count] : order)
    words += (words.empty() ? "" : "; ") + setup.program.describe(code) + ": " +
             std::to_string(count) + (allowed.contains(code) ? "" : " (forbidden)");
  if (tally.alien != 0) words += "; stale or foreign values: " + std::to_string(tally.alien);
  return words;
}

std::int64_t whole(std::uint64_t number) { return static_cast<std::int64_t>(number); }

}  // namespace

bench::Outcome report(const std::vector<Finished>& all, std::uint64_t runs, std::uint64_t seed) {
  bench::Table table({{"test", "test"},
                      {"threads_on", "threads on"},
                      {"cluster_nodes", "nodes"},
                      {"variables_in", "variables in"},
                      {"fences", "fences"},
                      {"runs", "runs"},
                      {"forbidden", "forbidden"},
                      {"weak", "weak"},
                      {"outcomes_seen", "seen"},
                      {"outcomes_allowed", "of"},
                      {"page_faults", "faults"},
                      {"seconds", "s"},
                      {"outcomes", "outcomes"}});
  std::uint64_t forbidden = 0;
  std::uint64_t total = 0;
  std::uint64_t fewest = ~std::uint64_t{0};
  std::uint64_t control_weak = 0;
  bool control = false;
  for (const auto& [setup, tally] : all) {
    const Verdict verdict = judge(setup, tally);
    forbidden += verdict.forbidden;
    total += tally.runs;
    fewest = std::min(fewest, tally.runs);
    if (setup.is_control()) {
      control_weak = control ? std::min(control_weak, verdict.weak) : verdict.weak;
      control = true;
    }
    table.add({setup.program.name, placement(setup), std::int64_t{setup.nodes},
               setup.program.variables == 1 ? "one page" : to_words(setup.layout),
               setup.fenced ? "mfence" : "none", whole(tally.runs), whole(verdict.forbidden),
               whole(verdict.weak), whole(tally.counts.size()), whole(setup.allowed().size()),
               whole(tally.faults), tally.seconds, seen(setup, tally)});
  }
  bench::Outcome outcome{"litmus", "Litmus tests on real daemons", std::move(table), {}, {}, {},
                         {}};
  using Better = bench::Target::Better;
  outcome.targets.push_back({"forbidden outcomes in " + std::to_string(total) + " runs",
                             static_cast<double>(forbidden), 0, std::nullopt, Better::kSmaller});
  outcome.targets.push_back({"fewest runs of a test", static_cast<double>(fewest),
                             static_cast<double>(runs), std::nullopt, Better::kLarger});
  if (control)
    outcome.targets.push_back({"fewest weak outcomes of a control (threads on one node, no fence)",
                               static_cast<double>(control_weak), 1, std::nullopt,
                               Better::kLarger});
  outcome.notes = {
      "threads on different nodes must be sequentially consistent without fences; threads on one "
      "node keep x86-TSO, and 'weak' counts what that allows beyond sequential consistency",
      "controls are threads on one node without fences, each kept on a core of its own",
      "a run has locations of its own in pages that many runs share; threads meet before groups of "
      "1 to 32 runs, outside of Gobelins, and start up to 131 us apart",
      "what is allowed was found by trying every interleaving of the program in the model of "
      "tests/litmus/memory_model.h"};
  outcome.parameters = {{"runs", runs}, {"seed", seed}};
  return outcome;
}

}  // namespace gob::litmus
