#include "gobbench/plot.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <array>
#include <cmath>
#include <sstream>

#include "gobbench/process.h"

namespace gob::bench {
namespace {

// A gnuplot string literal; single quotes inside are doubled and nothing else is special.
std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'') out += '\'';
    out += c == '\n' ? ' ' : c;
  }
  return out + "'";
}

// Colours that also those tell apart who see few of them, none of them pale.
std::string line_colours() {
  std::string out;
  int type = 0;
  for (const char* colour :
       {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a4a1e", "#444444"})
    out += "set linetype " + std::to_string(++type) + " lc rgb '" + colour + "'\n";
  return out + "set linetype cycle 8\n";
}

const char* style_of(Curve::Style style) {
  switch (style) {
    case Curve::Style::kLinePoints:
      return "linespoints lw 2 pt 7 ps 0.6";
    case Curve::Style::kLine:
      return "lines lw 2";
    case Curve::Style::kDashed:
      return "lines lw 1.5 dt 2 lc rgb '#888888'";
    case Curve::Style::kPoints:
      return "points pt 2 ps 1.4 lw 2 lc rgb 'black'";
  }
  return "lines";
}

bool drawable(const Panel& panel, double x, double y) {
  return std::isfinite(x) && std::isfinite(y) && (!panel.log_x || x > 0) && (!panel.log_y || y > 0);
}

void put_curves(const Panel& panel, std::ostringstream& out) {
  std::ostringstream data;
  std::ostringstream command;
  for (std::size_t i = 0; i < panel.curves.size(); ++i) {
    const Curve& curve = panel.curves[i];
    data << "$curve" << i << " << EOD\n";
    std::size_t drawn = 0;
    for (const auto& [x, y] : curve.points)
      if (drawable(panel, x, y)) {
        data << x << ' ' << y << '\n';
        ++drawn;
      }
    data << "EOD\n";
    if (drawn == 0) continue;
    command << (command.tellp() == 0 ? "plot " : ", ") << "$curve" << i << " using 1:2 title "
            << quoted(curve.title) << " with " << style_of(curve.style);
  }
  out << data.str() << command.str() << '\n';
}

void put_bars(const Panel& panel, std::ostringstream& out) {
  out << "$bars << EOD\n";
  for (const Bar& bar : panel.bars)
    if (drawable(panel, 1, bar.value)) {
      std::string label = bar.label;
      for (char& c : label)
        if (c == '"') c = '\'';
      out << '"' << label << "\" " << bar.value << '\n';
    }
  out << "EOD\n"
      << "set style fill solid 0.8 noborder\nset boxwidth 0.7\n"
      << "set xtics rotate by -40 left\nset key off\nset bmargin 9\n"
      << "plot $bars using 0:2:xtic(1) with boxes lc rgb '#3b6ea5'\n"
      << "unset xtics\nset xtics\nset key on\nunset bmargin\n";
}

}  // namespace

std::string gnuplot_script(const Plot& plot) {
  std::ostringstream out;
  const std::size_t panels = plot.panels.empty() ? 1 : plot.panels.size();
  const std::size_t rows = panels > 3 ? 2 : 1;
  const std::size_t columns = (panels + rows - 1) / rows;
  out << "set terminal svg size " << (columns == 1 ? 800 : 620 * columns) << ',' << 520 * rows
      << " dynamic font 'sans-serif,13' background 'white' noenhanced\n"
      << line_colours() << "set grid lc rgb '#dddddd'\nset key top left\n"
      << "set multiplot layout " << rows << ',' << columns << " title " << quoted(plot.title)
      << '\n';
  for (const Panel& panel : plot.panels) {
    out << "set title " << quoted(panel.title) << "\nset xlabel " << quoted(panel.x_label)
        << "\nset ylabel " << quoted(panel.y_label) << '\n'
        << (panel.log_x ? "set logscale x\nset autoscale xfix\n"
                        : "unset logscale x\nset autoscale x\n")
        << (panel.log_y ? "set logscale y\n" : "unset logscale y\nset yrange [0:*]\n");
    if (panel.y_max > 0)
      out << "set yrange [" << (panel.log_y ? "*:" : "0:") << panel.y_max << "]\n";
    out << "set key top " << (panel.key_right ? "right" : "left") << '\n';
    if (panel.bars.empty())
      put_curves(panel, out);
    else
      put_bars(panel, out);
    out << "set yrange [*:*]\n";
  }
  out << "unset multiplot\n";
  return out.str();
}

Result<std::string> draw_svg(const Plot& plot) {
  // gnuplot reads a file rather than a pipe, so that neither side waits for the other's pipe.
  const UniqueFd script(::memfd_create("gobbench-plot", MFD_CLOEXEC));
  if (!script) return system_error("cannot make a file in memory for the gnuplot script");
  const std::string text = gnuplot_script(plot);
  if (::pwrite(script.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()))
    return system_error("cannot write the gnuplot script");
  SpawnOptions options;
  options.argv = {"gnuplot", "/dev/stdin"};
  options.stdin_fd = script.get();
  Result<std::string> svg = output_of(options);
  if (!svg) return svg.error();
  if (svg->find("</svg>") == std::string::npos)
    return make_error(ErrorCode::kSystem, "gnuplot drew nothing; it said: " + svg->substr(0, 500));
  return svg;
}

}  // namespace gob::bench
