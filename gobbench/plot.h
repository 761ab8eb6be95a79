// Plot: curves and bars, drawn as SVG by gnuplot. Values; drawing blocks on the gnuplot process.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "libgob/base/result.h"

namespace gob::bench {

struct Curve {
  enum class Style { kLinePoints, kLine, kDashed, kPoints };

  std::string title;
  std::vector<std::pair<double, double>> points;
  Style style = Style::kLinePoints;
};

struct Bar {
  std::string label;
  double value = 0;
};

// One system of axes, with curves or with bars.
struct Panel {
  std::string title;
  std::string x_label;
  std::string y_label;
  bool log_x = false;
  bool log_y = false;
  std::vector<Curve> curves;
  std::vector<Bar> bars;
  double y_max = 0;        // where the axis ends; 0: where the data do
  bool key_right = false;  // the names of the curves stand on the right, not on the left
};

struct Plot {
  std::string title;
  std::vector<Panel> panels;  // side by side; more than three in two rows
};

// The program for gnuplot; its data stand inside it, its output goes to stdout.
[[nodiscard]] std::string gnuplot_script(const Plot& plot);

// Fails with kUnsupported if gnuplot is not installed.
[[nodiscard]] Result<std::string> draw_svg(const Plot& plot);

}  // namespace gob::bench
