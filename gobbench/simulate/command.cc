#include "gobbench/simulate/command.h"

#include "libgob/base/ids.h"

namespace gob::bench {
namespace {

Algorithm algorithm_of(int number) { return number == 9 ? Algorithm::kJacobi : Algorithm::kMgs; }

}  // namespace

void SimulateCommand::add_to(CLI::App& app, const Session& session,
                             const std::function<void(Run)>& choose) {
  choose_ = choose;
  CLI::App* parent = app.add_subcommand(
      "simulate", "The real protocol core on clusters that are not here, under a model of time");
  parent->fallthrough();
  parent->require_subcommand(1);
  parent->footer(
      "Examples:\n"
      "  gobbench simulate presets                       which clusters, and whence each number\n"
      "  gobbench simulate validate                      this machine, simulated and real\n"
      "  gobbench simulate figure 10 --nodes 2,6         the paper's cluster\n"
      "  gobbench simulate scale --nodes 4,64,1024       what grows with the cluster\n"
      "  gobbench simulate figure 9 --preset roce-100g --set hold_us=20");
  add_figure(*parent);
  add_scale(*parent);
  add_sensitivity(*parent);
  add_validate(*parent, session);
  add(*parent, "presets", "The simulated clusters, each parameter with its source",
      [] { return Result<Outcome>(list_presets()); });
}

CLI::App* SimulateCommand::add(CLI::App& parent, const char* name, const char* description,
                               Run run) {
  CLI::App* command = parent.add_subcommand(name, description);
  command->fallthrough();
  command->callback([this, run = std::move(run)] { choose_(run); });
  return command;
}

void SimulateCommand::add_cluster(CLI::App& command, SimulatedCluster& cluster) {
  command.add_option("--preset", cluster.preset, "The cluster; 'simulate presets' lists them")
      ->capture_default_str();
  command
      .add_option("--set", cluster.changes, "Another value for a parameter, NAME=VALUE; repeatable")
      ->allow_extra_args(false);
}

void SimulateCommand::add_figure(CLI::App& parent) {
  CLI::App* command = add(parent, "figure", "Figure 9 or 10 on a simulated cluster", [this] {
    figure_.algorithm = algorithm_of(figure_number_);
    return simulate_figure(figure_);
  });
  command->add_option("number", figure_number_, "9 or 10")
      ->required()
      ->check(CLI::IsMember({9, 10}));
  add_cluster(*command, figure_.cluster);
  command->add_option("--nodes", figure_.nodes, "Numbers of nodes")
      ->delimiter(',')
      ->check(CLI::Range(1, static_cast<int>(kMaxNodes)))
      ->default_str("1,2,3,4,5,6");
  command->add_option("--size", figure_.sizes, "Lines of the matrices")
      ->delimiter(',')
      ->check(CLI::Range(3, 16384))
      ->default_str("64,128,256,512,1024,2048");
  command->add_option("--iterations", figure_.iterations, "Iterations of Jacobi")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  command->add_flag("--padded", figure_.padded, "Each line begins on a page of its own");
}

void SimulateCommand::add_scale(CLI::App& parent) {
  CLI::App* command =
      add(parent, "scale", "Misses, directories, invalidations, barriers by number of nodes",
          [this] { return simulate_scale(scale_); });
  add_cluster(*command, scale_.cluster);
  command->add_option("--nodes", scale_.nodes, "Numbers of nodes")
      ->delimiter(',')
      ->check(CLI::Range(4, static_cast<int>(kMaxNodes)))
      ->default_str("4,8,16,32,64,128,256,512,1024");
  command->add_option("--pages", scale_.pages, "Independent pages of the whole cluster")
      ->check(CLI::Range(std::uint64_t{1} << 16, std::uint64_t{1} << 24))
      ->capture_default_str();
  command->add_option("--misses", scale_.misses, "Misses of each node on independent pages")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
}

void SimulateCommand::add_sensitivity(CLI::App& parent) {
  CLI::App* command =
      add(parent, "sensitivity", "A speed-up with each parameter halved and doubled", [this] {
        sensitivity_.algorithm = algorithm_of(sensitivity_number_);
        return simulate_sensitivity(sensitivity_);
      });
  command->add_option("number", sensitivity_number_, "Figure 9 or 10")
      ->check(CLI::IsMember({9, 10}))
      ->capture_default_str();
  add_cluster(*command, sensitivity_.cluster);
  command->add_option("--nodes", sensitivity_.nodes, "Number of nodes")
      ->check(CLI::Range(2, static_cast<int>(kMaxNodes)))
      ->capture_default_str();
  command->add_option("--size", sensitivity_.size, "Lines of the matrix")
      ->check(CLI::Range(3, 16384))
      ->capture_default_str();
}

void SimulateCommand::add_validate(CLI::App& parent, const Session& session) {
  CLI::App* command =
      add(parent, "validate", "Two nodes of this machine, simulated and real, side by side",
          [this, &session] { return simulate_validate(session, validate_); });
  command->add_option("--size", validate_.sizes, "Lines of the matrices")
      ->delimiter(',')
      ->check(CLI::Range(3, 4096))
      ->default_str("256,512,1024");
  command->add_option("--iterations", validate_.iterations, "Iterations of Jacobi")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  command->add_option("--runs", validate_.runs, "Runs of the real programs; the median counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
}

}  // namespace gob::bench
