#include "gobbench/publish.h"

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "gobbench/machine.h"

namespace gob::bench {

Json run_record(const Outcome& outcome, const std::string& command) {
  Json record{{"title", outcome.title},
              {"commit", commit()},
              {"command", command},
              {"time", utc_now()},
              {"machine", describe_machine()},
              {"parameters", outcome.parameters}};
  record["targets"] = Json::array();
  for (const Target& target : outcome.targets) record["targets"].push_back(target.json());
  record["notes"] = outcome.notes;
  return record;
}

Status write_file(const std::string& directory, const std::string& name, const std::string& text) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error)
    return make_error(ErrorCode::kSystem,
                      "cannot make the directory " + directory + "; choose another with --results",
                      error.value());
  const std::string path = directory + "/" + name;
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.flush();
  if (!file) return system_error("cannot write " + path);
  return {};
}

Status write_results(const Outcome& outcome, const PublishOptions& options) {
  if (options.results_dir.empty()) return {};
  const std::string directory = options.results_dir + "/" + outcome.folder;
  if (Status s = write_file(directory, "data.csv", outcome.table.csv()); !s) return s;
  const std::string record = run_record(outcome, options.command).dump(2) + "\n";
  if (Status s = write_file(directory, "run.json", record); !s) return s;
  if (outcome.plot.panels.empty()) return {};
  const Result<std::string> svg = draw_svg(outcome.plot);
  if (svg) return write_file(directory, "figure.svg", *svg);
  if (svg.error().code != ErrorCode::kNotFound) return svg.error();
  std::fprintf(stderr, "gobbench: %s/figure.svg not drawn: gnuplot is not installed\n",
               directory.c_str());
  return {};
}

void print(const Outcome& outcome, const PublishOptions& options) {
  if (options.json) {
    Json object = run_record(outcome, options.command);
    object["rows"] = outcome.table.json();
    std::printf("%s\n", object.dump(2).c_str());
    return;
  }
  std::printf("%s\n\n%s", outcome.title.c_str(), outcome.table.text().c_str());
  if (!outcome.targets.empty() || !outcome.notes.empty()) std::printf("\n");
  for (const Target& target : outcome.targets) std::printf("%s\n", target.text().c_str());
  for (const std::string& note : outcome.notes) std::printf("note: %s\n", note.c_str());
  if (!options.results_dir.empty())
    std::printf("files: %s/%s\n", options.results_dir.c_str(), outcome.folder.c_str());
}

}  // namespace gob::bench
