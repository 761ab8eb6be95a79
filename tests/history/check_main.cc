// check_history: checks the traces that the daemons of one machine wrote (trace_dir in gobd.toml).
#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "tests/history/page_check.h"

int main(int argc, char** argv) {
  enum ExitStatus : int { kSound = 0, kUnreadable = 1, kUsage = 2, kViolations = 3 };
  std::string directory;
  bool json = false;
  CLI::App app(
      "Checks the traces that daemons wrote because trace_dir was set: that each page had one "
      "writer\n"
      "or many readers, that the bytes which came were the last that were written, and that every\n"
      "access ended. All nodes must have run on one machine, whose clock the traces share.");
  app.footer(
      "Example:\n"
      "  check_history traces\n"
      "Exit codes: 0 sound, 1 a trace cannot be used, 2 wrong usage, 3 violations.");
  app.add_option("directory", directory, "Where the traces of all nodes are")->required();
  app.add_flag("--json", json, "Print JSON");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kSound : kUsage;
  }
  const auto traces = gob::history::read_traces(directory);
  if (!traces) {
    std::fprintf(stderr, "check_history: %s\n", traces.error().message().c_str());
    return kUnreadable;
  }
  const gob::history::PageCheck check = gob::history::check_pages(*traces);
  const nlohmann::ordered_json summary = {{"daemons", traces->size()},
                                          {"records", check.records},
                                          {"pages", check.pages},
                                          {"grants", check.grants},
                                          {"writers", check.writers},
                                          {"moves", check.moves},
                                          {"violations", check.findings.count},
                                          {"shown", check.findings.shown}};
  if (json) {
    std::printf("%s\n", summary.dump(2).c_str());
  } else {
    std::printf("%s", check.findings.text().c_str());
    for (const auto& [key, value] : summary.items())
      if (value.is_number()) std::printf("%-10s %s\n", key.c_str(), value.dump().c_str());
  }
  return check.findings.empty() ? kSound : kViolations;
}
