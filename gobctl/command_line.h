// The table of gobctl's subcommands, and the command line made from it. Used by one thread.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>

#include "gobctl/arguments.h"
#include "libgob/base/result.h"

namespace gob::ctl {

struct Subcommand {
  const char* group;  // "cluster" for its parts, else empty
  const char* name;
  const char* summary;
  const char* help;  // examples and what is to be known, shown by --help
  void (*declare)(CLI::App& app, Arguments& arguments);
  Status (*run)(const Arguments& arguments, Io& io);
};

class CommandLine {
 public:
  CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  [[nodiscard]] CLI::App& app() { return app_; }
  [[nodiscard]] const CLI::App& app() const { return app_; }
  [[nodiscard]] const Arguments& arguments() const { return arguments_; }
  // After a parse: what was asked for.
  [[nodiscard]] const Subcommand* chosen() const { return chosen_; }

 private:
  CLI::App app_;
  Arguments arguments_;
  const Subcommand* chosen_ = nullptr;
};

}  // namespace gob::ctl
