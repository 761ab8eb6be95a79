// gobbench: measures a cluster and reproduces the paper's figures. Parses, calls, prints.
#include <CLI/CLI.hpp>
#include <charconv>
#include <cstdio>
#include <functional>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "gobbench/fault.h"
#include "gobbench/figure.h"
#include "gobbench/files/file_figure.h"
#include "gobbench/micro.h"
#include "gobbench/migration/migrant.h"
#include "gobbench/migration/migration_figure.h"
#include "gobbench/reproduce.h"
#include "gobbench/simulate/command.h"
#include "gobbench/stream.h"
#include "gobbench/transport.h"
#include "gobbench/worker_main.h"
#include "libgob/base/completion.h"
#include "libgob/base/size.h"
#include "libgob/base/usage.h"

namespace gob::bench {
namespace {

constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;

std::string command_line(int argc, char** argv) {
  std::string line = "gobbench";
  for (int i = 1; i < argc; ++i) line += std::string(" ") + argv[i];
  return line;
}

int fail(const Error& error) {
  std::fprintf(stderr, "gobbench: %s\n", error.message().c_str());
  return error.code == ErrorCode::kInvalidArgument ? kExitUsage : kExitFailed;
}

int publish(const Result<Outcome>& outcome, const PublishOptions& options) {
  if (!outcome) return fail(outcome.error());
  print(*outcome, options);
  const Status written = write_results(*outcome, options);
  return written ? 0 : fail(written.error());
}

// Everything that can be said on the command line, and what to do about it.
class Commands {
 public:
  explicit Commands(std::string command) {
    publish_.command = std::move(command);
    app_.description(
        "Measures a cluster of gobd nodes. Without --cluster-dir each command starts a private\n"
        "cluster on this machine and ends it. Every command prints a table and writes data.csv,\n"
        "run.json and figure.svg into a folder under --results.");
    app_.footer(
        "Examples:\n"
        "  gobbench fault                            what a remote page fault costs\n"
        "  gobbench figure 9 --nodes 1,2 --size 512  speed-up of Jacobi\n"
        "  gobbench simulate figure 10               speed-up on the paper's cluster, simulated\n"
        "  gobbench reproduce --quick                everything, in a few minutes\n"
        "Exit codes: 0 done, 1 failed (a wrong result too), 2 wrong usage. See gobbench(1).");
    app_.set_version_flag("--version", GOB_VERSION);
    app_.require_subcommand(1);
    app_.add_flag("--json", publish_.json, "Print JSON instead of a table");
    app_.add_option("--results", publish_.results_dir, "Directory for the files; '' writes none")
        ->capture_default_str();
    app_.add_option("--cluster-dir", session_.cluster_dir,
                    "Use the running cluster of 'gobctl cluster up --dir DIR'");
    app_.add_flag("--netns", session_.netns,
                  "Private nodes in network namespaces over veth (needs root)")
        ->excludes("--cluster-dir");
    app_.add_option("--shards", session_.shards, "Shards of each private node")
        ->check(CLI::Range(1, 64))
        ->capture_default_str();
    app_.add_option("--transport", session_.transport, "Between private nodes: auto, verbs or tcp")
        ->check(CLI::IsMember({"auto", "verbs", "tcp"}))
        ->capture_default_str();
    app_.add_flag("!--no-read-ahead", session_.read_ahead, "Private nodes do not read ahead")
        ->excludes("--cluster-dir");
    add_micro();
    add_fault();
    add_stream();
    add_transport();
    add_figure();
    simulate_.add_to(app_, session_, [this](const SimulateCommand::Run& run) {
      action_ = [this, run] { return publish(run(), publish_); };
    });
    add_reproduce();
    add_worker();
    add_migrant();
    add_completion();
  }

  int run(int argc, char** argv) {
    try {
      app_.parse(argc, argv);
    } catch (const CLI::Success& success) {  // --help, --version
      return app_.exit(success);
    } catch (const CLI::ParseError& error) {
      say_usage_error(app_, "gobbench", error, std::cerr);
      return kExitUsage;
    }
    return action_();
  }

 private:
  CLI::App* add(const char* name, const char* description, std::function<int()> action) {
    CLI::App* command = app_.add_subcommand(name, description);
    command->fallthrough();
    command->callback([this, action = std::move(action)] { action_ = action; });
    return command;
  }

  void add_micro() {
    CLI::App* command =
        add("micro", "Parts of the miss path, alone: core, codec, directory, frames",
            [this] { return publish(run_micro(micro_), publish_); });
    command->add_option("--filter", micro_.filter, "Regular expression on the names")
        ->capture_default_str();
    command->add_option("--seconds", micro_.min_seconds, "Time for each part")
        ->check(CLI::Range(0.001, 60.0))
        ->capture_default_str();
  }

  void add_fault() {
    CLI::App* command =
        add("fault", "Page faults on other nodes' pages, next to raw TCP and a bare fault",
            [this] { return publish(run_fault(session_, fault_), publish_); });
    command->add_option("--nodes", fault_.nodes, "Sizes of clusters to measure on")
        ->delimiter(',')
        ->check(CLI::Range(2, 64))
        ->capture_default_str();
    command->add_option("--samples", fault_.samples, "Faults of each kind")
        ->check(CLI::Range(1, 1000000))
        ->capture_default_str();
    command->add_option("--rounds", fault_.rounds, "Turns that the kinds take")
        ->check(CLI::Range(1, 1000))
        ->capture_default_str();
    add_rdma_device(command, fault_.rdma_device);
    command->add_flag("!--no-pin,--pin", fault_.pin,
                      "Whether to keep each private node to a core of its own; without, the "
                      "scheduler places them");
  }

  void add_stream() {
    CLI::App* command =
        add("stream", "Reads of a container on another node, next to raw TCP", [this] {
          const Result<std::uint64_t> bytes = parse_size(stream_size_);
          if (!bytes) return fail(bytes.error());
          stream_.bytes = *bytes;
          return publish(run_stream(session_, stream_), publish_);
        });
    command->add_option("--size", stream_size_, "Size of the container")->capture_default_str();
    command->add_option("--runs", stream_.runs, "Runs; the median counts")
        ->check(CLI::Range(1, 1000))
        ->capture_default_str();
    add_rdma_device(command, stream_.rdma_device);
    command->add_flag("!--no-pin,--pin", stream_.pin,
                      "Whether to keep each private node to a core of its own; without, the "
                      "scheduler places them");
  }

  static void add_rdma_device(CLI::App* command, std::string& device) {
    command->add_option("--rdma-device", device,
                        "Measure perftest's tools on it, too (package perftest); for --transport "
                        "verbs");
  }

  void add_transport() {
    CLI::App* command =
        add("transport", "A page at the level of the transport: TCP, and RDMA next to perftest",
            [this] { return publish(run_transport(transport_), publish_); });
    command->add_option("--rdma-device", transport_.device,
                        "Measure RDMA on it, too; needs the package perftest");
    command->add_option("--pages", transport_.pages, "Pages to ask for, of each kind")
        ->check(CLI::Range(10, 10000000))
        ->capture_default_str();
    command->add_option("--rounds", transport_.rounds, "Turns that the kinds take")
        ->check(CLI::Range(1, 1000))
        ->capture_default_str();
    command->add_option("--under-way", transport_.under_way, "Requests at a time, where many")
        ->check(CLI::Range(2, 200))
        ->capture_default_str();
    command
        ->add_option("--busy-wait-us", transport_.busy_wait_us, "As rdma_poll_us of gobd.toml(5)")
        ->check(CLI::Range(0, 1000000))
        ->capture_default_str();
  }

  void add_figure() {
    CLI::App* command = add("figure",
                            "A figure of the paper: 9 (Jacobi), 10 (modified Gram-Schmidt), 11 "
                            "(reading files in order), 12 (reading files at random), 13 "
                            "(freeze of a process that moves), 14 (overhead of a move)",
                            [this] { return figure(); });
    command->add_option("number", figure_number_, "9 to 14")
        ->required()
        ->check(CLI::Range(9, 14));
    command
        ->add_option("--size", figure_sizes_,
                     "Lines of the matrices (13, 14: or their memory, like 1G); sizes of the files")
        ->delimiter(',')
        ->default_str("9, 10: 64,128,256,512,1024,2048; 11, 12: 1M,8M,64M,256M; 13: "
                      "64,512,16M,4096,1G; 14: 64,256,1024,4096,1G");
    command->add_option("--runs", figure_runs_, "Runs; the median counts")
        ->check(CLI::Range(1, 1000))
        ->default_str("3; 14: 1");
    const std::string programs = "Figures 9 and 10";
    command->add_option("--nodes", figure_.nodes, "Numbers of nodes")
        ->delimiter(',')
        ->check(CLI::Range(1, 64))
        ->default_str("1,2,3,4")
        ->group(programs);
    command->add_option("--iterations", figure_.iterations, "Iterations of Jacobi")
        ->check(CLI::Range(1, 1000000))
        ->capture_default_str()
        ->group(programs);
    command->add_option("--block", figure_.block, "Lines of a block of Jacobi; 0 chooses")
        ->check(CLI::Range(0, 16384))
        ->capture_default_str()
        ->group(programs);
    command->add_flag("--padded", figure_.padded, "Each line begins on a page of its own")
        ->group(programs);
    const std::string files = "Figures 11 and 12";
    command->add_option("--request", request_sizes_, "Bytes of one read")
        ->delimiter(',')
        ->default_str("4K,1M")
        ->group(files);
    command->add_option("--depth", files_.depths, "Reads under way at once")
        ->delimiter(',')
        ->check(CLI::Range(1, 256))
        ->default_str("1,16")
        ->group(files);
    command->add_option("--rate", rates_, "Mbit/s that a node may send, over veth; 0: no limit")
        ->delimiter(',')
        ->check(CLI::Range(0, 1000000))
        ->default_str("0,1000")
        ->group(files);
    const std::string moves = "Figures 13 and 14";
    command->add_option("--criu", moves_.criu, "The CRIU program, if not $GOB_CRIU or criu")
        ->type_name("PROGRAM")
        ->group(moves);
    command
        ->add_option("--work", moves_.seconds, "Seconds that the program takes if it is not moved (14)")
        ->check(CLI::Range(0.1, 3600.0))
        ->capture_default_str()
        ->group(moves);
  }

  int figure() {
    figure_.runs = figure_runs_.value_or(3);
    if (figure_number_ >= 13) return migration_figure();
    if (figure_number_ >= 11) return file_figure();
    if (!figure_sizes_.empty()) figure_.sizes.clear();
    for (const std::string& text : figure_sizes_) {
      std::size_t lines = 0;
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), lines);
      if (error != std::errc() || end != text.data() + text.size() || lines < 3 || lines > 16384)
        return fail(make_error(ErrorCode::kInvalidArgument,
                               "--size: '" + text + "' is no number of lines from 3 to 16384"));
      figure_.sizes.push_back(lines);
    }
    figure_.algorithm = figure_number_ == 9 ? Algorithm::kJacobi : Algorithm::kMgs;
    return publish(run_figure(session_, figure_), publish_);
  }

  int file_figure() {
    const auto take = [](const std::vector<std::string>& texts, std::vector<std::uint64_t>& sizes) {
      if (!texts.empty()) sizes.clear();
      for (const std::string& text : texts) {
        const Result<std::uint64_t> bytes = parse_size(text);
        if (!bytes) return Status(bytes.error());
        sizes.push_back(*bytes);
      }
      return Status();
    };
    if (const Status s = take(figure_sizes_, files_.file_bytes); !s) return fail(s.error());
    if (const Status s = take(request_sizes_, files_.request_bytes); !s) return fail(s.error());
    if (!rates_.empty()) files_.bits_per_second.clear();
    for (const std::uint64_t rate : rates_) files_.bits_per_second.push_back(rate * 1'000'000);
    files_.runs = figure_.runs;
    files_.random = figure_number_ == 12;
    return publish(run_file_figure(session_, files_), publish_);
  }

  int migration_figure() {
    moves_.overhead = figure_number_ == 14;
    moves_.runs = figure_runs_.value_or(moves_.overhead ? 1 : 3);
    if (figure_sizes_.empty()) moves_.lines = default_lines(moves_.overhead);
    for (const std::string& text : figure_sizes_) {
      const Result<std::uint64_t> given = parse_size(text);
      if (!given) return fail(given.error());
      const bool is_memory = text.find_first_not_of("0123456789") != std::string::npos;
      const std::size_t lines = is_memory ? lines_of(*given) : *given;
      if (lines < 3 || lines > 65536)
        return fail(make_error(ErrorCode::kInvalidArgument,
                               "--size: '" + text + "' is no matrix of 3 to 65536 lines"));
      moves_.lines.push_back(lines);
    }
    return publish(run_migration_figure(session_, moves_), publish_);
  }

  void add_migrant() {
    CLI::App* command = add("migrant", "", [this] { return run_migrant(migrant_); });
    command->group("");  // figures 13 and 14 run it by themselves: not in the help
    command->add_option("--lines", migrant_.lines)->required()->check(CLI::Range(3, 65536));
    command->add_option("--steps", migrant_.steps);
    command->add_option("--seconds", migrant_.seconds);
    command->add_option("--file", migrant_.file)->required();
  }

  void add_reproduce() {
    CLI::App* command =
        add("reproduce", "Every figure and measurement, and a report of them", [this] {
          const Status done = reproduce(session_, publish_, quick_);
          return done ? 0 : fail(done.error());
        });
    command->add_flag("--quick", quick_, "Small sizes and few samples");
  }

  void add_worker() {
    CLI::App* command = add("worker", "", [this] { return run_worker(worker_socket_); });
    command->group("");  // gobbench runs it by itself: not in the help
    command->add_option("--socket", worker_socket_)->required();
  }

  void add_completion() {
    CLI::App* command = add("completion", "Print a completion script", [this] {
      print_completion(app_, "gobbench", shell_, std::cout);
      return std::cout.flush() ? 0 : kExitFailed;
    });
    command->group("");  // for installers: not in the help
    command->add_option("SHELL", shell_)->required()->check(CLI::IsMember({"bash", "zsh", "fish"}));
  }

  CLI::App app_;
  std::function<int()> action_;
  PublishOptions publish_;
  Session session_;
  MicroOptions micro_;
  FaultOptions fault_;
  StreamOptions stream_;
  std::string stream_size_ = "256M";
  TransportOptions transport_;
  FigureOptions figure_{.sizes = {64, 128, 256, 512, 1024, 2048}, .nodes = {1, 2, 3, 4}};
  int figure_number_ = 9;
  std::vector<std::string> figure_sizes_;
  FileFigureOptions files_;
  MigrationFigureOptions moves_;
  MigrantOptions migrant_;
  std::optional<unsigned> figure_runs_;
  std::vector<std::string> request_sizes_;
  std::vector<std::uint64_t> rates_;
  SimulateCommand simulate_;
  bool quick_ = false;
  std::string worker_socket_;
  std::string shell_;
};

}  // namespace
}  // namespace gob::bench

int main(int argc, char** argv) {
  gob::bench::Commands commands(gob::bench::command_line(argc, argv));
  return commands.run(argc, argv);
}
