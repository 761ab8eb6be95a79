// Shows an outcome on stdout and files it under the results directory.
#pragma once

#include <string>

#include "gobbench/outcome.h"
#include "libgob/base/result.h"

namespace gob::bench {

struct PublishOptions {
  bool json = false;                    // stdout: JSON instead of tables
  std::string results_dir = "results";  // empty: write no files
  std::string command;                  // as typed, for run.json
};

// What run.json holds: commit, command, machine, time, parameters, targets, notes.
[[nodiscard]] Json run_record(const Outcome& outcome, const std::string& command);

// Writes data.csv, run.json and figure.svg into results_dir/folder; no figure if the plot has no
// panels. Without gnuplot the rest is written, and stderr says so. A shared folder's run.json has a
// record for each source, by name, under "runs"; what other sources wrote there stays, in all three
// files.
[[nodiscard]] Status write_results(const Outcome& outcome, const PublishOptions& options);

// The same with the rows of the table: what --json prints.
[[nodiscard]] Json whole_json(const Outcome& outcome, const std::string& command);

// Prints to stdout.
void print(const Outcome& outcome, const PublishOptions& options);

// Makes the directory if needed and writes a whole file.
[[nodiscard]] Status write_file(const std::string& directory, const std::string& name,
                                const std::string& text);

}  // namespace gob::bench
