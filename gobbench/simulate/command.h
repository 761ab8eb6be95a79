// The command line of `gobbench simulate`. Main thread.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "gobbench/session.h"
#include "gobbench/simulate/figure_sim.h"
#include "gobbench/simulate/scale.h"
#include "gobbench/simulate/validate.h"

namespace gob::bench {

class SimulateCommand {
 public:
  using Run = std::function<Result<Outcome>()>;

  // Adds the command to `app`. What is chosen on the command line is handed to `choose`; it refers
  // to this object and to `session`.
  void add_to(CLI::App& app, const Session& session, const std::function<void(Run)>& choose);

 private:
  CLI::App* add(CLI::App& parent, const char* name, const char* description, Run run);
  static void add_cluster(CLI::App& command, SimulatedCluster& cluster);
  void add_figure(CLI::App& parent);
  void add_scale(CLI::App& parent);
  void add_sensitivity(CLI::App& parent);
  void add_validate(CLI::App& parent, const Session& session);

  std::function<void(Run)> choose_;
  SimulatedFigureOptions figure_;
  int figure_number_ = 9;
  ScaleOptions scale_;
  SensitivityOptions sensitivity_;
  int sensitivity_number_ = 10;
  ValidateOptions validate_;
};

}  // namespace gob::bench
