#include "gobbench/simulate/scale.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "gobbench/progress.h"
#include "gobbench/simulate/scale_cases.h"
#include "libgob/base/node_set.h"

namespace gob::bench {
namespace {

constexpr double kFlat = 0.10;  // how far a latency may be from that on the smallest cluster

std::string text_of(double value, int decimals) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%.*f", decimals, value);
  return text.data();
}

// What all sizes found, by size.
struct Findings {
  std::vector<unsigned> nodes;
  std::vector<IndependentPages> independent;
  std::vector<SharedPages> shared;
  std::vector<SharedPages> few;
  std::vector<double> barriers_us;
  std::vector<ViewChange> views;
};

Result<Findings> find_all(const Timing& timing, const ScaleOptions& options) {
  Findings all;
  Progress progress("scale", options.nodes.size() * 5);
  for (const unsigned nodes : options.nodes) {
    const std::string size = std::to_string(nodes) + " nodes, ";
    all.nodes.push_back(nodes);
    progress.step(size + "independent pages");
    Result<IndependentPages> independent = independent_pages(timing, nodes, options);
    if (!independent) return independent.error();
    all.independent.push_back(*independent);
    progress.step(size + "shared pages");
    Result<SharedPages> shared = shared_pages(timing, nodes, nodes, options.shared_pages);
    if (!shared) return shared.error();
    all.shared.push_back(*shared);
    progress.step(size + "few readers");
    Result<SharedPages> few =
        shared_pages(timing, nodes, options.few_readers, options.shared_pages);
    if (!few) return few.error();
    all.few.push_back(*few);
    progress.step(size + "barriers");
    const Result<double> barrier = barrier_us(timing, nodes);
    if (!barrier) return barrier.error();
    all.barriers_us.push_back(*barrier);
    progress.step(size + "view change");
    Result<ViewChange> view = view_change(timing, nodes, options.pages);
    if (!view) return view.error();
    all.views.push_back(*view);
  }
  return all;
}

Table table_of(const Findings& all, const ScaleOptions& options) {
  Table table({{"case", "case"},
               {"nodes", "nodes"},
               {"p50_us", "p50 µs"},
               {"p99_us", "p99 µs"},
               {"mean_us", "mean µs"},
               {"messages", "messages each", 1},
               {"three_hop_share", "by three nodes", 2},
               {"manager_max_over_mean", "manager max/mean", 2},
               {"directory_kib_per_node", "directory KiB a node"}});
  const auto add = [&](const std::string& name, unsigned nodes, const Latency& latency,
                       const Cell& messages, std::vector<Cell> rest) {
    std::vector<Cell> row{
        name,    static_cast<std::int64_t>(nodes), latency.p50_us, latency.p99_us, latency.mean_us,
        messages};
    rest.resize(3);
    row.insert(row.end(), rest.begin(), rest.end());
    table.add(std::move(row));
  };
  for (std::size_t i = 0; i < all.nodes.size(); ++i) {
    const IndependentPages& found = all.independent[i];
    add("independent pages, read miss", all.nodes[i], found.all, found.messages_a_miss,
        {found.three_hop_share, found.manager_load_max_over_mean,
         found.directory_bytes_max / 1024});
  }
  for (std::size_t i = 0; i < all.nodes.size(); ++i)
    add("the same, by two nodes", all.nodes[i], all.independent[i].two_hops, {}, {});
  for (std::size_t i = 0; i < all.nodes.size(); ++i)
    add("the same, by three nodes", all.nodes[i], all.independent[i].three_hops, {}, {});
  for (std::size_t i = 0; i < all.nodes.size(); ++i)
    add("shared pages, all nodes read", all.nodes[i], all.shared[i].read, {}, {});
  for (std::size_t i = 0; i < all.nodes.size(); ++i)
    add("shared pages, write after all read", all.nodes[i], all.shared[i].write,
        all.shared[i].messages_a_write, {});
  for (std::size_t i = 0; i < all.nodes.size(); ++i)
    add("write after " + std::to_string(options.few_readers) + " read", all.nodes[i],
        all.few[i].write, all.few[i].messages_a_write, {});
  const auto single = [&](const std::string& name, unsigned nodes, double us,
                          const Cell& messages) {
    table.add(
        {name, static_cast<std::int64_t>(nodes), us, Cell(), us, messages, Cell(), Cell(), Cell()});
  };
  for (std::size_t i = 0; i < all.nodes.size(); ++i)
    single("barrier of all nodes", all.nodes[i], all.barriers_us[i], {});
  for (std::size_t i = 0; i < all.nodes.size(); ++i)
    single("view change", all.nodes[i], all.views[i].ms * 1e3, all.views[i].messages);
  return table;
}

Plot plot_of(const Findings& all, const ScaleOptions& options, const std::string& title) {
  const auto curve = [&](const std::string& name, std::size_t count, auto&& value) {
    Curve made{name, {}, Curve::Style::kLinePoints};
    for (std::size_t i = 0; i < count; ++i) made.points.emplace_back(all.nodes[i], value(i));
    return made;
  };
  const std::size_t count = all.nodes.size();
  Panel miss{"read miss on independent pages: flat", "nodes", "µs", true, false, {}, {}};
  miss.curves = {curve("p99", count, [&](auto i) { return all.independent[i].all.p99_us; }),
                 curve("mean", count, [&](auto i) { return all.independent[i].all.mean_us; }),
                 curve("p50 by three nodes", count,
                       [&](auto i) { return all.independent[i].three_hops.p50_us; })};
  // Room above for the key.
  for (const auto& [x, y] : miss.curves.front().points) miss.y_max = std::max(miss.y_max, y * 1.5);
  Panel directory{"directory of a node, the same data", "nodes", "KiB", true, true, {}, {}};
  directory.curves = {
      curve("fullest node", count,
            [&](auto i) { return all.independent[i].directory_bytes_max / 1024; }),
      curve("mean", count, [&](auto i) { return all.independent[i].directory_bytes_mean / 1024; })};
  directory.key_right = true;
  Panel fan_out{"messages for one write", "nodes", "messages", true, true, {}, {}};
  fan_out.curves = {
      curve("after all nodes read", count, [&](auto i) { return all.shared[i].messages_a_write; }),
      curve("after " + std::to_string(options.few_readers) + " nodes read", count,
            [&](auto i) { return all.few[i].messages_a_write; })};
  Panel together{"what all nodes do together", "nodes", "ms", true, true, {}, {}};
  together.curves = {
      curve("barrier", count, [&](auto i) { return all.barriers_us[i] * 1e-3; }),
      curve("write after all read", count,
            [&](auto i) { return all.shared[i].write.p50_us * 1e-3; }),
      curve("all read one page", count, [&](auto i) { return all.shared[i].read.p99_us * 1e-3; }),
      curve("view change", count, [&](auto i) { return all.views[i].ms; })};
  return {title, {miss, directory, fan_out, together}};
}

// How far the values of larger clusters are from that of the smallest, as a share of it.
template <class F>
double drift(const Findings& all, F&& value) {
  const double first = value(all.independent[0]);
  double worst = 0;
  for (const IndependentPages& found : all.independent)
    worst = std::max(worst, std::abs(value(found) / first - 1));
  return worst;
}

// The mean of all misses, held against what it would be if the two kinds cost the same as on the
// smallest cluster and only their shares changed.
double drift_from_shares(const Findings& all) {
  const IndependentPages& first = all.independent[0];
  double worst = 0;
  for (const IndependentPages& found : all.independent) {
    const double expected = found.three_hop_share * first.three_hops.mean_us +
                            (1 - found.three_hop_share) * first.two_hops.mean_us;
    worst = std::max(worst, std::abs(found.all.mean_us / expected - 1));
  }
  return worst;
}

std::vector<Target> targets_of(const Findings& all) {
  double shrinks = 0;
  for (std::size_t i = 1; i < all.nodes.size(); ++i)
    shrinks = std::max(shrinks, all.independent[i].directory_bytes_max /
                                    all.independent[i - 1].directory_bytes_max);
  const std::string span =
      std::to_string(all.nodes.front()) + " to " + std::to_string(all.nodes.back()) + " nodes";
  const auto flat = [&](const std::string& what, double found) {
    return Target{
        "independent pages, " + span + ", " + what, found, kFlat, {}, Target::Better::kSmaller};
  };
  const std::string from_smallest =
      ": largest distance from that on " + std::to_string(all.nodes.front());
  std::vector<Target> targets = {
      flat("p50 of misses by two nodes" + from_smallest,
           drift(all, [](const IndependentPages& i) { return i.two_hops.p50_us; })),
      flat("p50 of misses by three nodes" + from_smallest,
           drift(all, [](const IndependentPages& i) { return i.three_hops.p50_us; })),
      flat("mean of all misses: largest distance from what the shares of the two kinds make of the "
           "smallest cluster's means",
           drift_from_shares(all))};
  if (all.nodes.size() > 1)
    targets.push_back({"directory of the fullest node over that on the next smaller cluster, worst",
                       shrinks,
                       1.0,
                       {},
                       Target::Better::kSmaller});
  return targets;
}

// Where it stops scaling, in the numbers that were found.
std::vector<std::string> limits_of(const Findings& all, const ScaleOptions& options) {
  std::vector<std::string> notes;
  const std::size_t last = all.nodes.size() - 1;
  const std::string most = std::to_string(all.nodes[last]);
  const auto us = [](double value) { return text_of(value, 0) + " µs"; };
  notes.push_back(
      "a miss that concerns three nodes costs the same on any number of nodes, and so does one "
      "that "
      "concerns two; on few nodes the manager is often the requester or the owner, which saves a "
      "hop: " +
      text_of(all.independent[0].three_hop_share * 100, 0) +
      " % of the misses concern three nodes on " + std::to_string(all.nodes[0]) + " nodes, " +
      text_of(all.independent[last].three_hop_share * 100, 0) + " % on " + most +
      "; only by this the mean of all misses goes from " + us(all.independent[0].all.mean_us) +
      " to " + us(all.independent[last].all.mean_us) + ", " +
      text_of((all.independent[last].all.mean_us / all.independent[0].all.mean_us - 1) * 100, 0) +
      " % more");
  std::size_t exact = 0;  // the largest cluster whose copysets are exact
  while (exact < last && all.nodes[exact + 1] <= NodeSet::kBits) ++exact;
  if (all.nodes[last] > NodeSet::kBits && all.nodes[exact] <= NodeSet::kBits)
    notes.push_back("limit 1, copysets: an entry's 48 bits are exact up to 48 nodes; on " + most +
                    " a bit stands for " + text_of(all.nodes[last] / 48.0, 0) +
                    " nodes, and a write after " + std::to_string(options.few_readers) +
                    " nodes read costs " + text_of(all.few[last].messages_a_write, 0) +
                    " messages and " + us(all.few[last].write.p50_us) + " instead of " +
                    text_of(all.few[exact].messages_a_write, 0) + " and " +
                    us(all.few[exact].write.p50_us) + " on " + std::to_string(all.nodes[exact]));
  notes.push_back(
      "limit 2, a page that all read: its one owner serves all, one after the other (p99 " +
      us(all.shared[last].read.p99_us) + " on " + most +
      " nodes), and a write to it tells every node and waits for every answer (" +
      us(all.shared[last].write.p50_us) + ")");
  notes.push_back(
      "limit 3, barriers: one home hears all nodes and answers each with the list of all: " +
      us(all.barriers_us[last]) + " on " + most + " nodes, " + us(all.barriers_us[0]) + " on " +
      std::to_string(all.nodes[0]));
  notes.push_back(
      "limit 4, view changes: a marker and a report's end from each node to each, so the square of "
      "the nodes, besides a report for each stripe: " +
      text_of(all.views[last].messages, 0) + " messages and " + text_of(all.views[last].ms, 1) +
      " ms on " + most + " nodes, during which misses wait");
  return notes;
}

}  // namespace

Result<Outcome> simulate_scale(const ScaleOptions& options) {
  const Result<Preset> preset = options.cluster.resolve();
  if (!preset) return preset.error();
  ScaleOptions sorted = options;
  std::sort(sorted.nodes.begin(), sorted.nodes.end());
  sorted.nodes.erase(std::unique(sorted.nodes.begin(), sorted.nodes.end()), sorted.nodes.end());
  const Result<Findings> all = find_all(preset->timing, sorted);
  if (!all) return all.error();
  Outcome outcome;
  outcome.folder = "simulate_scale";
  outcome.title = "Scale, simulated: " + std::to_string(sorted.nodes.front()) + " to " +
                  std::to_string(sorted.nodes.back()) + " nodes, " + options.cluster.name();
  outcome.table = table_of(*all, sorted);
  outcome.targets = targets_of(*all);
  outcome.notes = limits_of(*all, sorted);
  outcome.notes.insert(outcome.notes.begin(),
                       "simulated: the real protocol core and barriers under a model of time; the "
                       "cluster: " +
                           preset->description);
  outcome.parameters = describe(*preset);
  outcome.parameters["nodes"] = sorted.nodes;
  outcome.parameters["pages"] = sorted.pages;
  outcome.parameters["misses_a_node"] = sorted.misses;
  outcome.parameters["shared_pages"] = sorted.shared_pages;
  outcome.parameters["few_readers"] = sorted.few_readers;
  outcome.plot = plot_of(*all, sorted, outcome.title);
  return outcome;
}

}  // namespace gob::bench
