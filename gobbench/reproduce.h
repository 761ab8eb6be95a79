// Every experiment in a row, and one report about all of them.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "gobbench/outcome.h"
#include "gobbench/publish.h"
#include "gobbench/session.h"

namespace gob::bench {

struct Experiment {
  std::string name;
  // `quick`: small sizes and few samples, for a first look of a few minutes.
  std::function<Result<Outcome>(const Session&, bool quick)> run;
};

// All that exist, in the order of the report.
[[nodiscard]] std::vector<Experiment> experiments();

// An experiment and what came of it.
using Finding = std::pair<std::string, Result<Outcome>>;

// Markdown: what was measured where, targets met and missed, tables, links to the plots.
[[nodiscard]] std::string report(const std::vector<Finding>& findings, const std::string& command,
                                 bool quick);

// Runs all, prints each (with JSON: one list at the end), writes results_dir/REPORT.md unless no
// files are wanted. An experiment that fails does not stop the others; the status then tells which
// failed.
[[nodiscard]] Status reproduce(const Session& session, const PublishOptions& options, bool quick);

}  // namespace gob::bench
