#include "gobbench/stream.h"

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "gobbench/bare_stream.h"
#include "gobbench/perftest.h"
#include "gobbench/progress.h"
#include "gobbench/raw_tcp.h"
#include "gobbench/worker.h"
#include "libgob/base/ids.h"
#include "libgob/base/size.h"

namespace gob::bench {
namespace {

constexpr double kMust = 0.60;
constexpr double kGoal = 0.85;
constexpr double kMiB = 1024.0 * 1024.0;
constexpr std::size_t kReader = 0;
constexpr std::size_t kHolder = 1;

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Bytes a second: one node fills a fresh container, the other reads it.
Result<double> read_remote(std::vector<Worker>& workers, std::uint64_t bytes, const char* order,
                           unsigned seed) {
  const std::string container = unique_name("stream");
  const auto request = [&](const char* what) {
    return Json{{"do", what}, {"container", container}};
  };
  Json create = request("create");
  create["bytes"] = bytes;
  Json read = request("stream");
  read["order"] = order;
  read["seed"] = seed;
  const std::vector<std::pair<std::size_t, Json>> before = {{kHolder, create},
                                                            {kHolder, request("map")},
                                                            {kHolder, request("fill")},
                                                            {kReader, request("map")}};
  for (const auto& [worker, step] : before)
    if (Result<Json> done = workers[worker].call(step); !done) return done.error();
  const Result<Json> reply = workers[kReader].call(read);
  if (!reply) return reply.error();
  const std::vector<std::pair<std::size_t, Json>> after = {
      {kReader, request("unmap")}, {kHolder, request("unmap")}, {kHolder, request("remove")}};
  for (const auto& [worker, step] : after)
    if (Result<Json> done = workers[worker].call(step); !done) return done.error();
  return static_cast<double>(bytes) / (reply->at("ns").get<double>() * 1e-9);
}

}  // namespace

Result<Outcome> run_stream(const Session& session, const StreamOptions& options) {
  const std::uint64_t bytes = std::max<std::uint64_t>(options.bytes / kPageSize, 1) * kPageSize;
  Progress progress("Streams", options.runs * 4);
  ClusterOptions wanted;
  wanted.nodes = 2;
  wanted.pin = options.pin;
  wanted.budget_bytes = std::max(wanted.budget_bytes, 2 * bytes);
  Result<Cluster> cluster = session.cluster(wanted);
  if (!cluster) return cluster.error();
  Result<std::vector<Worker>> workers = start_workers(*cluster, 2);
  if (!workers) return workers.error();
  TcpPlaces places;
  if (cluster->is_private()) places.server_host = cluster->nodes()[kHolder].host;
  places.server_netns_fd = cluster->nodes()[kHolder].netns_fd;
  places.client_netns_fd = cluster->nodes()[kReader].netns_fd;
  places.server_cpu = cluster->nodes()[kHolder].cpu;
  places.client_cpu = cluster->nodes()[kReader].cpu;

  std::vector<double> raw;
  std::vector<double> bare;
  std::vector<double> sequential;
  std::vector<double> random;
  constexpr const char* kDeviceTools[] = {"ib_send_bw", "ib_write_bw", "ib_read_bw"};
  std::map<std::string, std::vector<double>> device;
  for (unsigned run = 0; run < options.runs; ++run) {
    progress.step("raw TCP");
    const Result<double> tcp = tcp_stream(places, bytes);
    if (!tcp) return tcp.error();
    raw.push_back(*tcp);
    progress.step("kernel calls alone");
    const Result<double> calls = bare_stream(places, bytes);
    if (!calls) return calls.error();
    bare.push_back(*calls);
    progress.step("sequential");
    const Result<double> in_order = read_remote(*workers, bytes, "sequential", run);
    if (!in_order) return in_order.error();
    sequential.push_back(*in_order);
    progress.step("random");
    const Result<double> shuffled = read_remote(*workers, bytes, "random", run);
    if (!shuffled) return shuffled.error();
    random.push_back(*shuffled);
    if (options.rdma_device.empty()) continue;
    for (const char* tool : kDeviceTools) {
      const Result<double> rate = perftest_bandwidth(
          tool, options.rdma_device,
          static_cast<unsigned>(std::clamp<std::uint64_t>(bytes / kPageSize, 5, 20'000)));
      if (!rate) return rate.error();
      device[tool].push_back(*rate * 1e6);
    }
  }

  Table table({{"read", "read"},
               {"mebibytes_per_second", "MiB/s", 1},
               {"share_of_tcp", "share of raw TCP", 2},
               {"share_of_calls", "share of the calls alone", 2}});
  Panel panel{"", "", "MiB/s", false, false, {}, {}};
  const double tcp = median(raw);
  const double calls = median(bare);
  const auto add = [&](const std::string& name, double rate) {
    table.add({name, rate / kMiB, rate / tcp, rate / calls});
    panel.bars.push_back({name, rate / kMiB});
  };
  add("raw TCP stream", tcp);
  add("kernel calls alone", calls);
  for (const auto& [tool, rates] : device) add(tool + ", 4 KiB", median(rates));
  add("container, sequential", median(sequential));
  add("container, random", median(random));
  const std::string title =
      "Streams: reading a container of " + format_size(bytes) + " that another node holds";
  return Outcome{"stream",
                 title,
                 std::move(table),
                 {{"sequential read, share of a raw TCP stream", median(sequential) / tcp, kMust,
                   kGoal, Target::Better::kLarger}},
                 {"median of " + std::to_string(options.runs) +
                      " runs in turns; every word was read and checked",
                  "raw TCP: one thread sends in writes of 256 KiB, another receives",
                  "kernel calls alone: write-protect, read, send; receive, map into a program that "
                  "reads every word; a stripe at a time, with no protocol",
                  "nodes are gobd processes on one machine, joined by " + session.network()},
                 {{"bytes", bytes},
                  {"runs", options.runs},
                  {"pin", options.pin},
                  {"read_ahead", session.read_ahead},
                  {"network", session.network()},
                  {"rdma_device", options.rdma_device}},
                 Plot{title, {panel}}};
}

}  // namespace gob::bench
