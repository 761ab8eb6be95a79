#include "gobbench/fault.h"

#include <algorithm>
#include <map>
#include <optional>

#include "gobbench/perftest.h"
#include "gobbench/progress.h"
#include "gobbench/raw_tcp.h"
#include "gobbench/worker.h"
#include "libgob/base/histogram.h"
#include "libgob/base/ids.h"
#include "libgob/linker/bare_fault.h"

namespace gob::bench {
namespace {

constexpr double kMust = 2.0;
constexpr double kGoal = 1.3;
constexpr std::size_t kRequester = 0;  // whose program is measured
constexpr std::size_t kOwner = 1;      // where pages are written first

// A kind of access, and on how many other nodes the page has a copy when it is made.
struct Scenario {
  enum class Kind { kReadMiss, kWriteMiss, kUpgrade };
  Kind kind;
  unsigned copies;

  [[nodiscard]] std::string name() const {
    switch (kind) {
      case Kind::kReadMiss:
        return copies == 0 ? "read, first touch" : "read miss";
      case Kind::kWriteMiss:
        return copies == 0 ? "write, first touch" : "write miss";
      case Kind::kUpgrade:
        return "upgrade";
    }
    return "";
  }
};

std::vector<Scenario> scenarios_for(unsigned nodes) {
  std::vector<Scenario> all;
  for (const auto kind :
       {Scenario::Kind::kReadMiss, Scenario::Kind::kWriteMiss, Scenario::Kind::kUpgrade})
    for (const unsigned copies : {0u, 1u, 3u})
      if (copies < nodes) all.push_back({kind, copies});
  return all;
}

// Samples of everything, in nanoseconds. The key is the place in the table.
struct Row {
  std::string name;
  std::optional<unsigned> nodes;
  std::optional<unsigned> copies;
  Histogram times;
};

// Touches every page of the container once, from one worker.
Json touch(const std::string& container, bool writes, bool written, bool shuffled, unsigned seed) {
  return {{"do", "touch"},
          {"container", container},
          {"access", writes ? "write" : "read"},
          {"written", written},
          {"order", shuffled ? "random" : "sequential"},
          {"seed", seed}};
}

// Brings fresh pages into the state of the scenario, then makes the access on each in random order.
Status sample(std::vector<Worker>& workers, const Scenario& scenario, unsigned pages, unsigned seed,
              Histogram& out) {
  const std::string container = unique_name("fault");
  const auto on = [&](std::size_t worker, const Json& request) -> Status {
    const Result<Json> reply = workers[worker].call(request);
    if (!reply) return reply.error();
    return {};
  };
  const Json map{{"do", "map"}, {"container", container}};
  const Json unmap{{"do", "unmap"}, {"container", container}};
  if (Status s = on(kRequester,
                    {{"do", "create"}, {"container", container}, {"bytes", pages * kPageSize}});
      !s)
    return s;
  const std::size_t involved = std::max<std::size_t>(scenario.copies, 1) + 1;
  for (std::size_t w = 0; w < involved; ++w)
    if (Status s = on(w, map); !s) return s;

  // The owner writes, which counts as one copy; others read until there are enough.
  const bool written = scenario.copies > 0;
  if (written)
    if (Status s = on(kOwner, touch(container, true, true, false, seed)); !s) return s;
  for (std::size_t w = kOwner + 1; w <= scenario.copies; ++w)
    if (Status s = on(w, touch(container, false, true, false, seed)); !s) return s;
  if (scenario.kind == Scenario::Kind::kUpgrade)
    if (Status s = on(kRequester, touch(container, false, written, false, seed)); !s) return s;

  const bool writes = scenario.kind != Scenario::Kind::kReadMiss;
  Result<Json> measured = workers[kRequester].call(touch(container, writes, written, true, seed));
  if (!measured) return measured.error();
  for (const std::uint64_t ns : measured->at("ns")) out.add(ns);

  for (std::size_t w = 0; w < involved; ++w)
    if (Status s = on(w, unmap); !s) return s;
  return on(kRequester, {{"do", "remove"}, {"container", container}});
}

// The two parts that a remote fault is made of, measured in turns with the faults.
struct Baseline {
  Row page{"raw TCP, 8 B out, 4 KiB back", {}, {}, {}};
  Row word{"raw TCP, 64 B out, 64 B back", {}, {}, {}};
  Row bare{"bare userfaultfd fault", {}, {}, {}};

  Status sample(const TcpPlaces& places, unsigned rounds) {
    const Result<std::vector<std::uint64_t>> pages = tcp_ping_pong(places, 8, kPageSize, rounds);
    if (!pages) return pages.error();
    const Result<std::vector<std::uint64_t>> words = tcp_ping_pong(places, 64, 64, rounds);
    if (!words) return words.error();
    const PinnedThread pinned(places.client_cpu);
    const Result<std::vector<std::uint64_t>> faults =
        measure_bare_fault(rounds, FaultWait::kBlocking);
    if (!faults) return faults.error();
    for (const std::uint64_t ns : *pages) page.times.add(ns);
    for (const std::uint64_t ns : *words) word.times.add(ns);
    for (const std::uint64_t ns : *faults) bare.times.add(ns);
    return {};
  }
  [[nodiscard]] double sum_p50() const {
    return static_cast<double>(page.times.percentile(0.5) + bare.times.percentile(0.5));
  }
};

// What the device takes for 4 KiB by itself, one way; the tools tell a typical time, no
// distribution.
struct DeviceBaseline {
  Row send{"ib_send_lat, 4 KiB", {}, {}, {}};
  Row write{"ib_write_lat, 4 KiB", {}, {}, {}};
  Row read{"ib_read_lat, 4 KiB", {}, {}, {}};

  Status sample(const std::string& device, unsigned rounds) {
    constexpr unsigned kLeastRounds = 5;
    const std::pair<const char*, Row*> tools[] = {
        {"ib_send_lat", &send}, {"ib_write_lat", &write}, {"ib_read_lat", &read}};
    for (const auto& [tool, row] : tools) {
      const auto us = perftest_latency_us(tool, device, std::max(rounds, kLeastRounds));
      if (!us) return us.error();
      row->times.add(static_cast<std::uint64_t>(*us * 1e3));
    }
    return {};
  }
};

TcpPlaces places_of(const Cluster& cluster) {
  const ClusterNode& requester = cluster.nodes()[kRequester];
  const ClusterNode& owner = cluster.nodes()[kOwner];
  TcpPlaces places;
  if (cluster.is_private()) places.server_host = owner.host;
  places.server_netns_fd = owner.netns_fd;
  places.client_netns_fd = requester.netns_fd;
  places.server_cpu = owner.cpu;
  places.client_cpu = requester.cpu;
  return places;
}

void add_row(Table& table, const Row& row, std::optional<double> ratio) {
  const auto us = [&](double fraction) {
    return static_cast<double>(row.times.percentile(fraction)) * 1e-3;
  };
  const auto optional = [](const std::optional<unsigned>& number) {
    return number ? Cell(static_cast<std::int64_t>(*number)) : Cell();
  };
  table.add({row.name, optional(row.nodes), optional(row.copies),
             static_cast<std::int64_t>(row.times.count()), us(0.5), us(0.9), us(0.99),
             static_cast<double>(row.times.max()) * 1e-3, ratio ? Cell(*ratio) : Cell()});
}

// The share of faults that took at most so long.
Curve distribution_of(const Row& row, const std::string& title) {
  Curve curve{title, {}, Curve::Style::kLine};
  std::uint64_t seen = 0;
  row.times.for_each_bucket([&](std::uint64_t, std::uint64_t upper, std::uint64_t count) {
    seen += count;
    curve.points.emplace_back(static_cast<double>(upper) * 1e-3,
                              static_cast<double>(seen) / static_cast<double>(row.times.count()));
  });
  return curve;
}

std::string title_of(const Row& row) {
  return row.name + (row.copies ? ", " + std::to_string(*row.copies) + " other copies, " +
                                      std::to_string(*row.nodes) + " nodes"
                                : "");
}

bool has_target(const Row& row) {
  return row.nodes == 2u && row.copies == 1u && (row.name == "read miss" || row.name == "upgrade");
}

Outcome outcome_of(const Session& session, const FaultOptions& options, const Baseline& baseline,
                   const DeviceBaseline& device, const std::vector<Row>& rows) {
  Table table({{"case", "access"},
               {"nodes", "nodes"},
               {"other_copies", "other copies"},
               {"samples", "samples"},
               {"p50_us", "p50 µs"},
               {"p90_us", "p90 µs"},
               {"p99_us", "p99 µs"},
               {"max_us", "max µs"},
               {"ratio", "p50 ratio", 2}});
  Panel panel{"share of faults within a time", "µs", "share", true, false, {}, {}};
  std::vector<Target> targets;
  const double sum = baseline.sum_p50();
  for (const Row* row : {&baseline.page, &baseline.word, &baseline.bare}) {
    add_row(table, *row, std::nullopt);
    panel.curves.push_back(distribution_of(*row, title_of(*row)));
    panel.curves.back().style = Curve::Style::kDashed;
  }
  if (!options.rdma_device.empty())
    for (const Row* row : {&device.send, &device.write, &device.read})
      add_row(table, *row, std::nullopt);
  for (const Row& row : rows) {
    const double ratio = static_cast<double>(row.times.percentile(0.5)) / sum;
    add_row(table, row, ratio);
    panel.curves.push_back(distribution_of(row, title_of(row)));
    if (has_target(row))
      targets.push_back(
          {row.name + " with one other copy on 2 nodes, p50 over (raw TCP + bare fault)", ratio,
           kMust, kGoal, Target::Better::kSmaller});
  }
  std::vector<std::string> notes = {
      "ratio: p50 of the access over the sum of the p50s of raw TCP (8 B out, 4 KiB back) and of a "
      "bare userfaultfd fault, all measured in turns in this run",
      "other copies: nodes besides the program's own that hold the page when the access is made",
      "each access is to another page, in random order, timed in the program itself",
      "nodes are gobd processes on one machine, joined by " + session.network()};
  if (std::any_of(options.nodes.begin(), options.nodes.end(),
                  [](unsigned n) { return n > usable_cpus().size(); }))
    notes.push_back("clusters of more than " + std::to_string(usable_cpus().size()) +
                    " nodes share the cores of this machine");
  if (!options.rdma_device.empty())
    notes.push_back("ib_*_lat: perftest's typical times on " + options.rdma_device +
                    ", one way (read: there and back), one a round");
  Json parameters{{"nodes", options.nodes},
                  {"samples", options.samples},
                  {"rounds", options.rounds},
                  {"read_ahead", session.read_ahead},
                  {"pin", options.pin},
                  {"network", session.network()},
                  {"rdma_device", options.rdma_device}};
  const std::string title = "Page faults: what a remote access costs";
  return {"fault",
          title,
          std::move(table),
          std::move(targets),
          std::move(notes),
          std::move(parameters),
          Plot{title, {std::move(panel)}}};
}

}  // namespace

Result<Outcome> run_fault(const Session& session, const FaultOptions& options) {
  const unsigned pages = std::max(options.samples / options.rounds, 1u);
  Progress progress("Page faults", options.nodes.size() * options.rounds);
  Baseline baseline;
  DeviceBaseline device;
  std::vector<Row> rows;
  for (const unsigned nodes : options.nodes) {
    ClusterOptions wanted;
    wanted.nodes = nodes;
    wanted.pin = options.pin;
    Result<Cluster> cluster = session.cluster(wanted);
    if (!cluster) return cluster.error();
    Result<std::vector<Worker>> workers = start_workers(*cluster, nodes);
    if (!workers) return workers.error();
    const std::vector<Scenario> scenarios = scenarios_for(nodes);
    const std::size_t first_row = rows.size();
    for (const Scenario& s : scenarios) rows.push_back({s.name(), cluster->size(), s.copies, {}});
    for (unsigned round = 0; round < options.rounds; ++round) {
      progress.step(std::to_string(nodes) + " nodes, round " + std::to_string(round + 1));
      if (Status s = baseline.sample(places_of(*cluster), pages); !s) return s.error();
      if (!options.rdma_device.empty())
        if (Status s = device.sample(options.rdma_device, pages); !s) return s.error();
      for (std::size_t i = 0; i < scenarios.size(); ++i)
        if (Status s = sample(*workers, scenarios[i], pages, round + 1, rows[first_row + i].times);
            !s)
          return s.error();
    }
  }
  return outcome_of(session, options, baseline, device, rows);
}

}  // namespace gob::bench
