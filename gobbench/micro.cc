#include "gobbench/micro.h"

#include <benchmark/benchmark.h>

#include <array>
#include <vector>

namespace gob::bench {
namespace {

constexpr double kDirectoryBytesMust = 32;
constexpr double kResidentBytesMust = 64;
constexpr std::size_t kMostEntries = std::size_t{1} << 20;

struct Measured {
  std::string name;
  double nanoseconds = 0;
  std::int64_t repetitions = 0;
  std::string error;
};

// Takes the results instead of printing them.
class Collector : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs)
      measured.push_back({run.benchmark_name(), run.GetAdjustedRealTime(), run.iterations,
                          run.error_occurred ? run.error_message : ""});
  }
  std::vector<Measured> measured;
};

Result<std::vector<Measured>> run_benchmarks(const MicroOptions& options) {
  static const bool registered = [] {
    register_core_benchmarks();
    register_codec_benchmarks();
    register_directory_benchmarks();
    register_frame_benchmarks();
    return true;
  }();
  (void)registered;
  std::array<std::string, 3> words = {"gobbench",
                                      "--benchmark_min_time=" + std::to_string(options.min_seconds),
                                      "--benchmark_filter=" + options.filter};
  std::array<char*, 4> argv = {words[0].data(), words[1].data(), words[2].data(), nullptr};
  int argc = 3;
  benchmark::Initialize(&argc, argv.data());
  Collector collector;
  benchmark::RunSpecifiedBenchmarks(&collector);
  for (const Measured& one : collector.measured)
    if (!one.error.empty())
      return make_error(ErrorCode::kSystem, "benchmark " + one.name + " failed: " + one.error);
  if (collector.measured.empty())
    return make_error(ErrorCode::kInvalidArgument, "no benchmark matches '" + options.filter + "'");
  return std::move(collector.measured);
}

// The library appends arguments and the clock to a name: "frames: take, a page/1/real_time".
std::string plain_name(const std::string& name) { return name.substr(0, name.find('/')); }

}  // namespace

Result<Outcome> run_micro(const MicroOptions& options) {
  Result<std::vector<Measured>> measured = run_benchmarks(options);
  if (!measured) return measured.error();
  Table table({{"part", "part"}, {"value", "value", 1}, {"unit", "unit"}, {"rounds", "rounds"}});
  Panel panel{"", "", "ns", false, true, {}, {}};
  for (const Measured& one : *measured) {
    table.add({plain_name(one.name), one.nanoseconds, std::string("ns"), one.repetitions});
    panel.bars.push_back({plain_name(one.name), one.nanoseconds});
  }
  const double directory = worst_directory_bytes(kMostEntries);
  const double resident = worst_resident_bytes(kMostEntries);
  table.add({std::string("memory of a directory entry, at worst"), directory, std::string("bytes"),
             Cell()});
  table.add(
      {std::string("memory of a resident page, at worst"), resident, std::string("bytes"), Cell()});
  const std::string title = "Parts of the miss path, alone";
  return Outcome{
      "micro",
      title,
      std::move(table),
      {{"bytes of a directory entry", directory, kDirectoryBytesMust, {}, Target::Better::kSmaller},
       {"bytes of a resident page", resident, kResidentBytesMust, {}, Target::Better::kSmaller}},
      {"core: one thread plays both nodes and hands messages over at once; a miss is the sum of "
       "all "
       "steps of both cores",
       "memory: the worst case over all table sizes from 4096 entries to a million"},
      {{"min_seconds", options.min_seconds}, {"filter", options.filter}},
      Plot{title, {panel}}};
}

}  // namespace gob::bench
