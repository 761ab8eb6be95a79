// Outcome: what one experiment found, before anybody prints or draws it. Values.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "gobbench/plot.h"
#include "gobbench/table.h"

namespace gob::bench {

// A measured number against what it has to be.
struct Target {
  enum class Better { kSmaller, kLarger };

  std::string what;
  double measured = 0;
  double must = 0;
  std::optional<double> goal;
  Better better = Better::kSmaller;

  [[nodiscard]] bool reaches(double bound) const {
    return better == Better::kSmaller ? measured <= bound : measured >= bound;
  }
  [[nodiscard]] bool met() const { return reaches(must); }
  // One line: measured, what must hold, what is hoped for, and whether each is reached.
  [[nodiscard]] std::string text() const;
  [[nodiscard]] Json json() const;
};

// A folder that several commands write to, each its own rows: those whose first column is `source`
// (a name of the command's) are replaced, rows of others stay. `constant`: a source that is no run.
struct Sharing {
  std::string source;
  std::string constant;
  Plot (*draw)(const Table& all);
};

struct Outcome {
  std::string folder;  // under the results directory; empty: nothing is filed
  std::string title;
  Table table{{}};
  std::vector<Target> targets;
  std::vector<std::string> notes;  // what a reader has to know to read the numbers rightly
  Json parameters = Json::object();
  Plot plot;
  std::optional<Sharing> sharing = std::nullopt;
};

}  // namespace gob::bench
