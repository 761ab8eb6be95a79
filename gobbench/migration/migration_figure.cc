#include "gobbench/migration/migration_figure.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <optional>

#include "gobbench/matrix.h"
#include "gobbench/migration/ways.h"
#include "gobbench/progress.h"
#include "libgob/base/size.h"

namespace gob::bench {
namespace {

constexpr double kMiB = 1024.0 * 1024.0;
constexpr std::size_t kOverheadCounts = 256;  // lines from which the overhead has to be smaller

using Trips = std::map<std::pair<Way, std::size_t>, std::vector<Trip>>;  // by way and lines

template <class F>
double median_of(const std::vector<Trip>& trips, F&& value) {
  std::vector<double> values;
  for (const Trip& trip : trips) values.push_back(static_cast<double>(value(trip)));
  std::ranges::sort(values);
  return values[values.size() / 2];
}
double freeze(const std::vector<Trip>& trips) {
  return median_of(trips, [](const Trip& t) { return t.report.gap_ms; });
}
double run_time(const std::vector<Trip>& trips) {
  return median_of(trips, [](const Trip& t) { return t.report.run_ms; });
}

double idle_time(const std::vector<Trip>& trips) {
  return median_of(trips, [](const Trip& t) { return t.report.idle_ms; });
}

std::uint64_t bytes_of(std::size_t lines) { return Matrix::bytes_of(lines, lines); }
double mebibytes_of(std::size_t lines) { return static_cast<double>(bytes_of(lines)) / kMiB; }

std::vector<Way> ways_of(const MigrationFigureOptions& options) {
  std::vector<Way> ways = {Way::kGob, Way::kBasic, Way::kCriuLazy, Way::kCriuFull};
  if (options.overhead) ways.insert(ways.begin() + 1, Way::kGobOnDemand);
  return ways;
}

// Every size by every way, in turns.
Status measure(Road& road, const MigrationFigureOptions& options, Trips& trips) {
  const std::vector<Way> ways = ways_of(options);
  Progress progress("Moves", options.lines.size() * (1 + options.runs * (ways.size() + 1)));
  std::map<std::size_t, std::uint64_t> steps;  // of work, by lines; figure 13: until moved
  std::map<std::size_t, std::string> digests;
  for (const std::size_t lines : options.lines) {
    if (!options.overhead) break;
    progress.step(std::to_string(lines) + " lines, how much work");
    const Result<Trip> trip = road.travel(
        Way::kStays, {.lines = lines, .steps = 0, .seconds = options.seconds, .file = ""});
    if (!trip) return trip.error();
    steps[lines] = trip->report.steps;
    digests[lines] = trip->report.digest;
  }
  for (unsigned run = 0; run < options.runs; ++run)
    for (const std::size_t lines : options.lines) {
      std::vector<Way> all = ways;
      if (options.overhead) all.insert(all.begin(), Way::kStays);
      for (const Way way : all) {
        progress.step(std::to_string(lines) + " lines, " + name_of(way));
        const Result<Trip> trip =
            road.travel(way, {.lines = lines, .steps = steps[lines], .seconds = 0, .file = ""});
        if (!trip) return trip.error();
        if (options.overhead && trip->report.digest != digests[lines])
          return make_error(ErrorCode::kSystem,
                            "wrong result: a matrix of " + std::to_string(lines) +
                                " lines is not what it would have been unmoved (" + name_of(way) +
                                ")");
        trips[{way, lines}].push_back(*trip);
      }
    }
  return {};
}

// The line of the table: a number where there is one.
Cell number(double value) { return value; }
Cell count(double value) { return static_cast<std::int64_t>(std::llround(value)); }

Table freeze_table(const Trips& trips) {
  Table table({{"what", "what"},
               {"way", "moved by"},
               {"lines", "lines"},
               {"memory_bytes", "memory, B"},
               {"freeze_ms", "freeze, ms"},
               {"shortest_ms", "shortest"},
               {"longest_ms", "longest"},
               {"dump_ms", "dump, ms"},
               {"transfer_ms", "transfer, ms"},
               {"restore_ms", "restore, ms"},
               {"take_over_ms", "take-over, ms"},
               {"sent_bytes", "sent, B"},
               {"faults", "faults"},
               {"fault_us", "mean fault, us"},
               {"shorter_than_us", "shorter than, us"}});
  for (const auto& [key, all] : trips) {
    const auto& [way, lines] = key;
    const auto [shortest, longest] =
        std::ranges::minmax(all, {}, [](const Trip& t) { return t.report.gap_ms; });
    std::vector<Cell> row = {"freeze",
                             name_of(way),
                             static_cast<std::int64_t>(lines),
                             static_cast<std::int64_t>(bytes_of(lines)),
                             freeze(all),
                             shortest.report.gap_ms,
                             longest.report.gap_ms};
    const bool by_gob = way == Way::kGob || way == Way::kBasic;
    for (std::size_t i = 0; i < 4; ++i)
      row.push_back(i == 3 && !by_gob
                        ? Cell()
                        : number(median_of(all, [i](const Trip& t) { return t.phases[i]; })));
    row.push_back(count(median_of(all, [](const Trip& t) { return t.sent_bytes; })));
    row.push_back(way == Way::kGob ? count(median_of(all, [](const Trip& t) { return t.faults; }))
                                   : Cell());
    row.push_back(way == Way::kGob
                      ? number(median_of(all, [](const Trip& t) { return t.fault_us; }))
                      : Cell());
    row.emplace_back();
    table.add(std::move(row));
  }
  for (const auto& [key, all] : trips) {
    if (key.first != Way::kGob) continue;
    std::vector<std::uint64_t> slots;
    for (const Trip& trip : all) {
      slots.resize(std::max(slots.size(), trip.fault_slots.size()));
      for (std::size_t i = 0; i < trip.fault_slots.size(); ++i) slots[i] += trip.fault_slots[i];
    }
    for (std::size_t i = 0; i < slots.size(); ++i) {
      if (slots[i] == 0) continue;
      std::vector<Cell> row = {"faults of all runs", name_of(key.first),
                               static_cast<std::int64_t>(key.second),
                               static_cast<std::int64_t>(bytes_of(key.second))};
      row.resize(12);
      row.emplace_back(static_cast<std::int64_t>(slots[i]));
      row.emplace_back();
      row.emplace_back(std::int64_t{1} << i);
      table.add(std::move(row));
    }
  }
  return table;
}

Table overhead_table(const Trips& trips) {
  Table table({{"way", "moved by"},
               {"lines", "lines"},
               {"memory_bytes", "memory, B"},
               {"steps", "vectors done"},
               {"run_ms", "run, ms"},
               {"overhead_ms", "overhead, ms"},
               {"idle_ms", "not computing, ms"},
               {"freeze_ms", "freeze, ms"},
               {"sent_bytes", "sent, B"},
               {"used_bytes", "used afterwards, B"}});
  for (const auto& [key, all] : trips) {
    const auto& [way, lines] = key;
    const bool moved = way != Way::kStays;
    const double alone = run_time(trips.at({Way::kStays, lines}));
    table.add(
        {name_of(way), static_cast<std::int64_t>(lines), static_cast<std::int64_t>(bytes_of(lines)),
         static_cast<std::int64_t>(all.front().report.steps), run_time(all),
         moved ? number(run_time(all) - alone) : Cell(), idle_time(all), freeze(all),
         moved ? count(median_of(all, [](const Trip& t) { return t.sent_bytes; })) : Cell(),
         moved ? count(median_of(all,
                                 [lines = lines](const Trip& t) {
                                   return bytes_used_from(lines, t.report.gap_step, t.report.steps);
                                 }))
               : Cell()});
  }
  return table;
}

std::vector<Target> freeze_targets(const MigrationFigureOptions& options, const Trips& trips) {
  const std::size_t largest = std::ranges::max(options.lines);
  std::vector<Target> found;
  if (const auto small = trips.find({Way::kGob, lines_of(16u << 20)});
      small != trips.end() && largest > lines_of(16u << 20))
    found.push_back({"freeze with " + format_size(bytes_of(largest)) + ", times that with 16M",
                     freeze(trips.at({Way::kGob, largest})) / freeze(small->second), 1.2,
                     std::nullopt, Target::Better::kSmaller});
  found.push_back(
      {"freeze with " + format_size(bytes_of(largest)) + ", times CRIU's lazy",
       freeze(trips.at({Way::kGob, largest})) / freeze(trips.at({Way::kCriuLazy, largest})), 1.1,
       0.5, Target::Better::kSmaller});
  return found;
}

std::vector<Target> overhead_targets(const MigrationFigureOptions& options, const Trips& trips) {
  std::vector<Target> found;
  for (const std::size_t lines : options.lines) {
    if (lines < kOverheadCounts) continue;
    const double alone = run_time(trips.at({Way::kStays, lines}));
    found.push_back({"overhead with " + std::to_string(lines) + " lines, ms more than basic's",
                     (run_time(trips.at({Way::kGob, lines})) - alone) -
                         (run_time(trips.at({Way::kBasic, lines})) - alone),
                     0, std::nullopt, Target::Better::kSmaller});
  }
  return found;
}

Plot draw(const std::string& title, const MigrationFigureOptions& options, const Trips& trips) {
  Panel panel{options.overhead ? "Overhead of a move" : "The process stands still",
              "memory, MiB",
              "ms",
              true,
              true,
              {},
              {}};
  Panel sent{"Sent by the source", "memory, MiB", "MiB", true, true, {}, {}};
  Panel faults{
      "Page faults after the move (gob)", "shorter than, us", "faults", true, true, {}, {}};
  for (const Way way : ways_of(options)) {
    Curve time{name_of(way), {}};
    Curve bytes{name_of(way), {}};
    for (const std::size_t lines : options.lines) {
      const std::vector<Trip>& all = trips.at({way, lines});
      const double ms =
          options.overhead ? run_time(all) - run_time(trips.at({Way::kStays, lines})) : freeze(all);
      time.points.emplace_back(mebibytes_of(lines), ms);
      bytes.points.emplace_back(mebibytes_of(lines),
                                median_of(all, [](const Trip& t) { return t.sent_bytes; }) / kMiB);
    }
    panel.curves.push_back(std::move(time));
    sent.curves.push_back(std::move(bytes));
  }
  for (const std::size_t lines : options.lines) {
    Curve curve{std::to_string(lines) + " lines", {}};
    const std::vector<Trip>& all = trips.at({Way::kGob, lines});
    for (std::size_t i = 0; i < all.front().fault_slots.size(); ++i) {
      double sum = 0;
      for (const Trip& trip : all)
        if (i < trip.fault_slots.size()) sum += static_cast<double>(trip.fault_slots[i]);
      if (sum > 0) curve.points.emplace_back(std::ldexp(1.0, static_cast<int>(i)), sum);
    }
    faults.curves.push_back(std::move(curve));
  }
  Plot plot{title, {std::move(panel), std::move(sent)}};
  if (!options.overhead) plot.panels.push_back(std::move(faults));
  return plot;
}

}  // namespace

std::string default_criu() {
  const char* named = std::getenv("GOB_CRIU");
  return named != nullptr && *named != '\0' ? named : "criu";
}

std::size_t lines_of(std::uint64_t bytes) {
  return static_cast<std::size_t>(std::sqrt(static_cast<double>(bytes / sizeof(double))));
}

std::vector<std::size_t> default_lines(bool overhead) {
  const std::size_t largest = lines_of(std::uint64_t{1} << 30);
  if (overhead) return {64, 256, 1024, 4096, largest};
  return {64, 512, lines_of(std::uint64_t{16} << 20), 4096, largest};
}

Result<Outcome> run_migration_figure(const Session& session,
                                     const MigrationFigureOptions& options) {
  if (!session.is_private())
    return make_error(ErrorCode::kInvalidArgument,
                      "figures 13 and 14 run on nodes of their own: leave --cluster-dir out");
  Result<Road> road = Road::open(
      session, {.largest_bytes = bytes_of(std::ranges::max(options.lines)), .criu = options.criu});
  if (!road) return road.error();
  Trips trips;
  if (Status s = measure(*road, options, trips); !s) return s.error();
  const std::string title =
      options.overhead ? "Figure 14: overhead of a move" : "Figure 13: cost of a move";
  std::vector<std::string> notes = {
      "median of " + std::to_string(options.runs) +
          " runs in turns; modified Gram-Schmidt, half of its vectors done when it begins, moved "
          "as soon as it is under way; its result is checked",
      "freeze: the longest time for which a thread of the program that looks at the clock every "
      "0.1 ms could not",
      "the memory that a move will take, up to 1 GiB, is touched before, since a virtual machine's "
      "free memory may have to come from its host first",
      "dump begins before the freeze: CRIU looks at the kernel first",
      "sent: by the source's network interface, until the program's end; CRIU's context images are "
      "copied from folder to folder, and not in it",
      "CRIU, lazy: dump --lazy-pages, a lazy-pages daemon at the target; CRIU, full: to a page "
      "server at the target; both as its manual says"};
  if (options.overhead) {
    notes.emplace_back(
        "used afterwards: bytes of the matrix that the program reads or writes after "
        "the move");
    notes.emplace_back("overhead: the run's time less that of the same work, not moved");
    notes.emplace_back(
        "not computing: of the run's time, what the thread that computes spent frozen, waiting for "
        "memory or for a processor, by its own clock: free of how fast the machine happened to be");
  } else {
    notes.emplace_back("faults: from the moment the target's server saw one to its answer");
    notes.emplace_back("paper, 2002: 83 ms at every size by containers");
  }
  Json parameters{{"runs", options.runs}, {"lines", options.lines}};
  if (options.overhead) parameters["seconds"] = options.seconds;
  Table table = options.overhead ? overhead_table(trips) : freeze_table(trips);
  std::vector<Target> targets =
      options.overhead ? overhead_targets(options, trips) : freeze_targets(options, trips);
  return Outcome{options.overhead ? "figure_14" : "figure_13",
                 title,
                 std::move(table),
                 std::move(targets),
                 std::move(notes),
                 std::move(parameters),
                 draw(title, options, trips)};
}

}  // namespace gob::bench
