#include "gobbench/transport.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <map>

#include "gobbench/channel_pair.h"
#include "gobbench/perftest.h"
#include "gobbench/progress.h"
#include "libgob/base/histogram.h"

namespace gob::bench {
namespace {

// One way of asking for pages, over all rounds.
struct Kind {
  const char* name;
  VerbsUse verbs;
  bool polls;
  bool many;  // requests at a time
  Histogram times{};
  double seconds = 0;
  double cpu_seconds = 0;
  double pages = 0;

  [[nodiscard]] double p50_us() const { return static_cast<double>(times.percentile(0.5)) * 1e-3; }
  [[nodiscard]] double cpu_us() const { return cpu_seconds / pages * 1e6; }
};

constexpr std::size_t kVerbsWaiting = 0;
constexpr std::size_t kVerbsPolling = 1;
constexpr std::size_t kVerbsMany = 2;
constexpr std::size_t kTcpWaiting = 3;
constexpr std::size_t kTcpMany = 5;

std::vector<Kind> all_kinds() {
  return {{"verbs, one at a time", VerbsUse::kRequired, false, false},
          {"verbs, one at a time, polling", VerbsUse::kRequired, true, false},
          {"verbs, many at a time", VerbsUse::kRequired, false, true},
          {"TCP, one at a time", VerbsUse::kNever, false, false},
          {"TCP, one at a time, polling", VerbsUse::kNever, true, false},
          {"TCP, many at a time", VerbsUse::kNever, false, true}};
}

Status sample(Kind& kind, const TransportOptions& options) {
  ChannelPairOptions pair;
  pair.verbs = kind.verbs;
  pair.rdma_device = options.device;
  pair.polls = kind.polls;
  pair.busy_wait = std::chrono::microseconds(options.busy_wait_us);
  pair.under_way = kind.many ? options.under_way : 1;
  pair.pages = std::max(options.pages / options.rounds, 1u);
  const auto measured = measure_channel_pair(pair);
  if (!measured) return measured.error();
  for (const std::uint64_t ns : measured->round_ns) kind.times.add(ns);
  kind.seconds += measured->seconds;
  kind.cpu_seconds += measured->machine_cpu_seconds;
  kind.pages += static_cast<double>(measured->round_ns.size());
  return {};
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

constexpr const char* kLatencyTools[] = {"ib_send_lat", "ib_write_lat", "ib_read_lat"};
constexpr const char* kBandwidthTools[] = {"ib_send_bw", "ib_write_bw", "ib_read_bw"};

}  // namespace

Result<Outcome> run_transport(const TransportOptions& options) {
  spdlog::set_level(spdlog::level::err);  // nodes that come and go are no news here
  const bool verbs = !options.device.empty();
  std::vector<Kind> kinds = all_kinds();
  std::map<std::string, std::vector<double>> tools;
  Progress progress("Transports", options.rounds * (kinds.size() + (verbs ? 6 : 0)));
  for (unsigned round = 0; round < options.rounds; ++round) {
    for (Kind& kind : kinds) {
      if (!verbs && kind.verbs != VerbsUse::kNever) continue;
      progress.step(kind.name);
      if (Status status = sample(kind, options); !status) return status.error();
    }
    if (!verbs) continue;
    const unsigned iterations = std::max(options.pages / options.rounds, 5u);
    const auto run_tools = [&](const auto& names, auto measure) -> Status {
      for (const char* tool : names) {
        progress.step(tool);
        const auto value = measure(tool, options.device, iterations);
        if (!value) return value.error();
        tools[tool].push_back(*value);
      }
      return {};
    };
    if (Status run = run_tools(kLatencyTools, perftest_latency_us); !run) return run.error();
    if (Status run = run_tools(kBandwidthTools, perftest_bandwidth); !run) return run.error();
  }

  Table table({{"case", "case"},
               {"pages", "pages"},
               {"p50_us", "p50 µs"},
               {"p99_us", "p99 µs"},
               {"mb_per_second", "MB/s"},
               {"cpu_us_per_page", "CPU µs a page"}});
  Panel panel{"median time", "", "µs", false, false, {}, {}};
  for (const Kind& kind : kinds) {
    if (kind.pages == 0) continue;
    table.add({kind.name, static_cast<std::int64_t>(kind.pages), kind.p50_us(),
               static_cast<double>(kind.times.percentile(0.99)) * 1e-3,
               kind.pages * static_cast<double>(kPageSize) / kind.seconds * 1e-6, kind.cpu_us()});
    if (!kind.many) panel.bars.push_back({kind.name, kind.p50_us()});
  }
  std::vector<Target> targets;
  if (verbs) {
    for (const char* tool : kLatencyTools) {
      table.add({std::string(tool) + " (typical)", {}, median(tools[tool]), {}, {}, {}});
      panel.bars.push_back({tool, median(tools[tool])});
    }
    for (const char* tool : kBandwidthTools) {
      table.add({std::string(tool) + " (average)", {}, {}, {}, median(tools[tool]), {}});
    }
    // Both poll all the time. (With --events, ib_send_lat does not end on soft-RoCE.)
    const double device = median(tools["ib_send_lat"]) + median(tools["ib_write_lat"]);
    targets = {
        {"page over verbs, polling, p50 over (ib_send_lat + ib_write_lat) at 4 KiB",
         kinds[kVerbsPolling].p50_us() / device, 1.5, 1.1, Target::Better::kSmaller},
        {"page over verbs, waiting as gobd does, p50 over (ib_send_lat + ib_write_lat) at 4 KiB",
         kinds[kVerbsWaiting].p50_us() / device, 1.5, 1.1, Target::Better::kSmaller},
        {"page over verbs, p50 over TCP's",
         kinds[kVerbsWaiting].p50_us() / kinds[kTcpWaiting].p50_us(),
         1.0,
         {},
         Target::Better::kSmaller},
        {"CPU a page over verbs, one at a time, over TCP's",
         kinds[kVerbsWaiting].cpu_us() / kinds[kTcpWaiting].cpu_us(),
         1.0,
         {},
         Target::Better::kSmaller},
        {"CPU a page over verbs, many at a time, over TCP's",
         kinds[kVerbsMany].cpu_us() / kinds[kTcpMany].cpu_us(),
         1.0,
         {},
         Target::Better::kSmaller}};
  }
  const std::string title = "Transports: a page of 4 KiB asked for with a message of 56 B";
  return Outcome{
      "transport",
      title,
      std::move(table),
      std::move(targets),
      {"both ends are threads of this program, on one device or the loopback network",
       "CPU: of the whole machine, so of use only where nothing else runs",
       "many at a time: " + std::to_string(options.under_way) + " requests are under way",
       "polling: both ends call poll() without a pause, as the tools of perftest do; else they "
       "wait as "
       "gobd does, after " +
           std::to_string(options.busy_wait_us) + " µs of polling at most",
       "the tools send or write 4 KiB one way; a page is a small message one way and 4 KiB back"},
      Json{{"device", options.device},
           {"pages", options.pages},
           {"rounds", options.rounds},
           {"under_way", options.under_way},
           {"busy_wait_us", options.busy_wait_us}},
      Plot{title, {std::move(panel)}}};
}

}  // namespace gob::bench
