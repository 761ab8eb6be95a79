#include "gobbench/publish.h"

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "gobbench/machine.h"

namespace gob::bench {
namespace {

// The whole file; empty if there is none.
std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A shared folder: keeps what other sources wrote there, before and beside our own.
Status join_others(const Sharing& sharing, const std::string& directory, Table& table,
                   Json& record) {
  const auto unreadable = [&](const std::string& why) {
    return make_error(ErrorCode::kInvalidArgument,
                      directory + " holds results that cannot be kept beside these (" + why +
                          "); move it away, or choose another place with --results");
  };
  Json runs = Json::object();
  Table all(table.columns());
  if (const std::string text = read_file(directory + "/data.csv"); !text.empty()) {
    const Result<Table> before = Table::from_csv(table.columns(), text);
    if (!before) return unreadable("data.csv: " + before.error().message());
    for (const auto& row : before->rows())
      if (row[0] != Cell(sharing.source) && row[0] != Cell(sharing.constant)) all.add(row);
    const Json old = Json::parse(read_file(directory + "/run.json"), nullptr, false);
    if (!old.is_object() || !old.contains("runs") || !old["runs"].is_object())
      return unreadable("run.json tells no runs");
    runs = old["runs"];
  }
  for (const auto& row : table.rows()) all.add(row);
  // Always in the same order, whoever wrote last.
  table = all.sorted();
  runs[sharing.source] = std::move(record);
  record = {{"runs", std::move(runs)}};
  return {};
}

}  // namespace

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
  if (options.results_dir.empty() || outcome.folder.empty()) return {};
  const std::string directory = options.results_dir + "/" + outcome.folder;
  Json record = run_record(outcome, options.command);
  Table table = outcome.table;
  Plot plot = outcome.plot;
  if (outcome.sharing) {
    if (Status s = join_others(*outcome.sharing, directory, table, record); !s) return s;
    plot = outcome.sharing->draw(table);
  }
  if (Status s = write_file(directory, "data.csv", table.csv()); !s) return s;
  if (Status s = write_file(directory, "run.json", record.dump(2) + "\n"); !s) return s;
  if (plot.panels.empty()) return {};
  const Result<std::string> svg = draw_svg(plot);
  if (svg) return write_file(directory, "figure.svg", *svg);
  if (svg.error().code != ErrorCode::kNotFound) return svg.error();
  std::fprintf(stderr, "gobbench: %s/figure.svg not drawn: gnuplot is not installed\n",
               directory.c_str());
  return {};
}

Json whole_json(const Outcome& outcome, const std::string& command) {
  Json object = run_record(outcome, command);
  object["rows"] = outcome.table.json();
  return object;
}

void print(const Outcome& outcome, const PublishOptions& options) {
  if (options.json) {
    std::printf("%s\n", whole_json(outcome, options.command).dump(2).c_str());
    return;
  }
  std::printf("%s\n\n%s", outcome.title.c_str(), outcome.table.text().c_str());
  if (!outcome.targets.empty() || !outcome.notes.empty()) std::printf("\n");
  for (const Target& target : outcome.targets) std::printf("%s\n", target.text().c_str());
  for (const std::string& note : outcome.notes) std::printf("note: %s\n", note.c_str());
  if (!options.results_dir.empty() && !outcome.folder.empty())
    std::printf("files: %s/%s\n", options.results_dir.c_str(), outcome.folder.c_str());
}

}  // namespace gob::bench
