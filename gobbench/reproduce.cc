#include "gobbench/reproduce.h"

#include <cstdio>

#include "gobbench/fault.h"
#include "gobbench/figure.h"
#include "gobbench/files/file_figure.h"
#include "gobbench/machine.h"
#include "gobbench/micro.h"
#include "gobbench/migration/migration_figure.h"
#include "gobbench/simulate/figure_sim.h"
#include "gobbench/simulate/scale.h"
#include "gobbench/simulate/validate.h"
#include "gobbench/stream.h"

namespace gob::bench {
namespace {

Result<Outcome> micro(const Session&, bool quick) {
  MicroOptions options;
  if (quick) options.min_seconds = 0.02;
  return run_micro(options);
}

Result<Outcome> fault(const Session& session, bool quick) {
  FaultOptions options;
  if (quick) options.samples = 400;
  return run_fault(session, options);
}

Result<Outcome> stream(const Session& session, bool quick) {
  StreamOptions options;
  if (quick) options.bytes = std::uint64_t{64} << 20;
  return run_stream(session, options);
}

Result<Outcome> figure(const Session& session, Algorithm algorithm, bool quick) {
  FigureOptions options;
  options.algorithm = algorithm;
  options.sizes = {64, 128, 256, 512, 1024, 2048};
  options.nodes = {1, 2, 3, 4, 5, 6};
  if (quick) {
    options.sizes = {64, 256, 512, 1024};
    options.nodes = {1, 2, 3};
    options.runs = 1;
  }
  return run_figure(session, options);
}

// On nodes of its own, as the next.
Result<Outcome> files(const Session& session, bool random, bool quick) {
  Session own = session;
  own.cluster_dir.clear();
  FileFigureOptions options;
  options.random = random;
  if (quick) {
    options.file_bytes = {1u << 20, 16u << 20};
    options.runs = 1;
  }
  return run_file_figure(own, options);
}

Result<Outcome> moves(const Session& session, bool overhead, bool quick) {
  Session own = session;
  own.cluster_dir.clear();
  MigrationFigureOptions options;
  options.overhead = overhead;
  options.lines = default_lines(overhead);
  if (overhead || quick) options.runs = 1;
  if (quick) options.lines = {64, 1024};
  return run_migration_figure(own, options);
}

// On nodes of its own, whatever the session's are: the model is of these.
Result<Outcome> validate(const Session& session, bool quick) {
  Session own = session;
  own.cluster_dir.clear();
  own.netns = false;
  ValidateOptions options;
  if (quick) {
    options.sizes = {256, 512};
    options.runs = 1;
    options.samples = 400;
  }
  return simulate_validate(own, options);
}

Result<Outcome> simulated(Algorithm algorithm, bool quick) {
  SimulatedFigureOptions options;
  options.algorithm = algorithm;
  if (quick) options.sizes = {64, 256, 512, 1024};
  return simulate_figure(options);
}

Result<Outcome> sensitivity(const Session&, bool quick) {
  SensitivityOptions options;
  if (quick) options.size = 512;
  return simulate_sensitivity(options);
}

Result<Outcome> scale(const Session&, bool quick) {
  ScaleOptions options;
  if (quick) options.nodes = {4, 16, 64, 256};
  return simulate_scale(options);
}

// A paragraph or a heading.
void put(std::string& out, const std::string& text) { out += text + "\n\n"; }

void put_summary(std::string& out, const std::vector<Finding>& findings) {
  put(out, "## Targets");
  for (const auto& [name, finding] : findings) {
    if (!finding) {
      out += "- FAILED: " + name + " did not run to its end\n";
      continue;
    }
    for (const Target& target : finding->targets) out += "- " + target.text() + "\n";
  }
  out += "\n";
}

void put_outcome(std::string& out, const Outcome& outcome) {
  put(out, "## " + outcome.title);
  put(out, outcome.table.markdown());
  put(out, "![" + outcome.title + "](" + outcome.folder + "/figure.svg)");
  for (const Target& target : outcome.targets) out += "- " + target.text() + "\n";
  for (const std::string& note : outcome.notes) out += "- " + note + "\n";
  out += "- data: [data.csv](" + outcome.folder + "/data.csv), [run.json](" + outcome.folder +
         "/run.json)\n\n";
}

}  // namespace

std::vector<Experiment> experiments() {
  return {
      {"micro", micro},
      {"fault", fault},
      {"stream", stream},
      {"figure 9",
       [](const Session& s, bool quick) { return figure(s, Algorithm::kJacobi, quick); }},
      {"figure 10", [](const Session& s, bool quick) { return figure(s, Algorithm::kMgs, quick); }},
      {"figure 11", [](const Session& s, bool quick) { return files(s, false, quick); }},
      {"figure 12", [](const Session& s, bool quick) { return files(s, true, quick); }},
      {"figure 13", [](const Session& s, bool quick) { return moves(s, false, quick); }},
      {"figure 14", [](const Session& s, bool quick) { return moves(s, true, quick); }},
      {"simulate validate", validate},
      {"simulate figure 9",
       [](const Session&, bool quick) { return simulated(Algorithm::kJacobi, quick); }},
      {"simulate figure 10",
       [](const Session&, bool quick) { return simulated(Algorithm::kMgs, quick); }},
      {"simulate sensitivity", sensitivity},
      {"simulate scale", scale}};
}

std::string report(const std::vector<Finding>& findings, const std::string& command, bool quick) {
  std::string out;
  put(out, "# Results");
  put(out, "Written by `" + command + "` at " + utc_now() + ", commit " + commit() + ", on " +
               machine_line() + ".");
  if (quick) put(out, "A quick run: small sizes and few samples.");
  put_summary(out, findings);
  for (const auto& [name, finding] : findings) {
    if (finding) {
      put_outcome(out, *finding);
    } else {
      put(out, "## " + name);
      put(out, "FAILED: " + finding.error().message());
    }
  }
  while (out.ends_with("\n\n")) out.pop_back();
  return out;
}

Status reproduce(const Session& session, const PublishOptions& options, bool quick) {
  std::vector<Finding> findings;
  std::string failed;
  Json all = Json::array();
  for (const Experiment& experiment : experiments()) {
    Result<Outcome> outcome = experiment.run(session, quick);
    if (outcome) {
      if (options.json) {
        all.push_back(whole_json(*outcome, options.command));
      } else {
        print(*outcome, options);
        std::printf("\n");
        std::fflush(stdout);
      }
      if (Status s = write_results(*outcome, options); !s) return s;
    } else {
      failed += (failed.empty() ? "" : "; ") + experiment.name + ": " + outcome.error().message();
    }
    findings.emplace_back(experiment.name, std::move(outcome));
  }
  if (options.json) std::printf("%s\n", all.dump(2).c_str());
  if (!options.results_dir.empty()) {
    if (Status s =
            write_file(options.results_dir, "REPORT.md", report(findings, options.command, quick));
        !s)
      return s;
    if (!options.json) std::printf("report: %s/REPORT.md\n", options.results_dir.c_str());
  }
  if (!failed.empty())
    return make_error(ErrorCode::kSystem, "not all experiments ended: " + failed);
  return {};
}

}  // namespace gob::bench
