#include "gobbench/figure_results.h"

#include <algorithm>
#include <map>

#include "gobbench/matrix.h"
#include "libgob/base/ids.h"

namespace gob::bench {
namespace {

constexpr std::size_t kSource = 0;
constexpr std::size_t kSize = 1;
constexpr std::size_t kNodes = 2;
constexpr std::size_t kSpeedUp = 5;

struct Point {
  std::size_t size;
  unsigned nodes;
  double speed_up;
};

// Readings that the paper's text gives as numbers.
std::vector<Point> paper_points(Algorithm algorithm) {
  if (algorithm == Algorithm::kMgs) return {{2048, 6, 5.2}};
  return {};
}

double number(const Cell& cell) {
  if (const auto* whole = std::get_if<std::int64_t>(&cell)) return static_cast<double>(*whole);
  if (const auto* real = std::get_if<double>(&cell)) return *real;
  return 0;
}

// Points of every source, in the order in which sources and rows come.
using Sources = std::vector<std::pair<std::string, std::vector<Point>>>;

Sources sources_of(const Table& table) {
  Sources sources;
  for (const auto& row : table.rows()) {
    const auto* name = std::get_if<std::string>(&row[kSource]);
    if (name == nullptr) continue;
    auto found = std::find_if(sources.begin(), sources.end(),
                              [&](const auto& source) { return source.first == *name; });
    if (found == sources.end()) found = sources.insert(sources.end(), {*name, {}});
    found->second.push_back({static_cast<std::size_t>(number(row[kSize])),
                             static_cast<unsigned>(number(row[kNodes])), number(row[kSpeedUp])});
  }
  return sources;
}

std::string title_of(const std::string& source) {
  return source == kMeasured ? "measured on this machine" : source;
}

Curve ideal(unsigned most) { return {"ideal", {{1, 1}, {most, most}}, Curve::Style::kDashed}; }

// The speed-ups at one size, by nodes.
Curve at_size(const std::string& title, const std::vector<Point>& points, std::size_t size,
              Curve::Style style) {
  Curve curve{title, {}, style};
  for (const Point& point : points)
    if (point.size == size) curve.points.emplace_back(point.nodes, point.speed_up);
  std::sort(curve.points.begin(), curve.points.end());
  return curve;
}

// One panel a source with a curve for each size, and one with all sources at the largest size.
Plot draw(const std::string& title, const Table& table) {
  const Sources sources = sources_of(table);
  unsigned most = 1;
  std::vector<std::size_t> sizes;
  for (const auto& [name, points] : sources)
    for (const Point& point : points) {
      most = std::max(most, point.nodes);
      if (std::find(sizes.begin(), sizes.end(), point.size) == sizes.end())
        sizes.push_back(point.size);
    }
  std::sort(sizes.begin(), sizes.end());
  Plot plot{title, {}};
  const auto panel = [&](const std::string& name) {
    Panel made{name, "nodes", "speed-up", false, false, {}, {}};
    made.y_max = most + 0.5;
    made.curves.push_back(ideal(most));
    return made;
  };
  for (const auto& [name, points] : sources) {
    if (name == kPaper) continue;
    Panel made = panel(title_of(name));
    for (const std::size_t size : sizes)
      made.curves.push_back(
          at_size(std::to_string(size) + "²", points, size, Curve::Style::kLinePoints));
    plot.panels.push_back(std::move(made));
  }
  if (sizes.empty()) return plot;
  Panel all = panel("all sources at " + std::to_string(sizes.back()) + "²");
  for (const auto& [name, points] : sources)
    all.curves.push_back(
        at_size(name == kPaper ? "the paper's reading" : title_of(name), points, sizes.back(),
                name == kPaper ? Curve::Style::kPoints : Curve::Style::kLinePoints));
  plot.panels.push_back(std::move(all));
  return plot;
}

Plot draw_figure_9(const Table& table) { return draw("Figure 9: speed-up with Jacobi", table); }
Plot draw_figure_10(const Table& table) {
  return draw("Figure 10: speed-up with modified Gram-Schmidt", table);
}

void add(Table& table, const FigureRow& row) {
  const auto optional = [](const std::optional<double>& value) {
    return value ? Cell(*value) : Cell();
  };
  table.add({row.source, static_cast<std::int64_t>(row.size), static_cast<std::int64_t>(row.nodes),
             optional(row.sequential_ms), optional(row.parallel_ms), row.speed_up});
}

}  // namespace

Outcome figure_outcome(Algorithm algorithm, const std::string& source,
                       const std::vector<FigureRow>& rows) {
  Table table({{"source", "source"},
               {"size", "size"},
               {"nodes", "nodes"},
               {"sequential_ms", "sequential ms", 2},
               {"parallel_ms", "parallel ms", 2},
               {"speed_up", "speed-up", 2}});
  for (const FigureRow& row : rows) add(table, row);
  for (const Point& point : paper_points(algorithm))
    add(table, {kPaper, point.size, point.nodes, {}, {}, point.speed_up});
  const bool jacobi = algorithm == Algorithm::kJacobi;
  Outcome outcome;
  outcome.folder = jacobi ? "figure_09" : "figure_10";
  outcome.sharing = Sharing{source, kPaper, jacobi ? draw_figure_9 : draw_figure_10};
  outcome.plot = outcome.sharing->draw(table);
  outcome.title = outcome.plot.title + ", " + source;
  outcome.table = std::move(table);
  return outcome;
}

std::string paper_reading(Algorithm algorithm) {
  if (algorithm == Algorithm::kJacobi)
    return "the paper's text on figure 9 gives no number: the speed-up rises quickly with the "
           "size, "
           "leaves the ideal as nodes are added, and is stable from 512² on (RR-4384 §6.1.2)";
  return "the paper's text on figure 10 gives one number: 5.2 on 6 nodes at 2048²; the speed-up "
         "rises slowly with the size and leaves the ideal quickly as nodes are added (RR-4384 "
         "§6.1.2)";
}

std::size_t block_lines(std::size_t size, std::size_t stride, unsigned workers) {
  constexpr std::size_t kMaxBlock = 256;
  const std::size_t line_bytes = stride * sizeof(double);
  const std::size_t lines_a_page = std::max<std::size_t>(kPageSize / line_bytes, 1);
  const std::size_t share = (size + workers - 1) / workers;
  const std::size_t rounds = (share + kMaxBlock - 1) / kMaxBlock;
  const std::size_t block = (share + rounds - 1) / rounds;
  return (block + lines_a_page - 1) / lines_a_page * lines_a_page;
}

}  // namespace gob::bench
