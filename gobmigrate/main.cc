// gobmigrate: moves a running process to another node. Parses, calls, prints. See gobmigrate(1).
#include <poll.h>
#include <signal.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>

#include "libgob/base/completion.h"
#include "libgob/base/file_limit.h"
#include "libgob/base/size.h"
#include "libgob/base/unique_fd.h"
#include "libgob/base/usage.h"
#include "libgob/migration/common_keeper.h"
#include "libgob/migration/common_sweep.h"
#include "libgob/migration/criu.h"
#include "libgob/migration/held_locks.h"
#include "libgob/migration/proc.h"
#include "libgob/migration/session.h"
#include "libgob/migration/source.h"
#include "libgob/migration/target.h"
#include "libgob/migration/view.h"

namespace {

using namespace gob;
using namespace gob::migration;

// As in gobmigrate(1).
enum ExitStatus : int { kOk = 0, kFailed = 1, kUsage = 2, kRefused = 3, kLostProcess = 4 };

struct Flags {
  SourceOptions move;
  std::string session;
  int link = -1;
  std::vector<std::string> addresses;
  std::string mode = "gob";
  bool no_stream = false;
  bool dry_run = false;
  bool json = false;
};

// As in gobmigrate(1), by Way.
constexpr const char* kWayNames[] = {"same", "equal", "source", "home", "mount", "copied"};

int fail(const Flags& flags, int status, const std::string& message) {
  if (flags.json) {
    std::cout << nlohmann::json{{"moved", false}, {"error", message}}.dump(2) << '\n';
  } else {
    std::cerr << "gobmigrate: " << message << '\n';
  }
  return status;
}

int refuse(const Flags& flags, const Plan& plan, const std::string& why) {
  return fail(
      flags, kRefused,
      "process " + std::to_string(plan.pid) + " cannot move; it was not touched:\n  " + why);
}

// `ready`: what the target said of the files; null: it was not asked, or refuses.
nlohmann::json to_json(const Plan& plan, const Ready* ready) {
  nlohmann::json files = nlohmann::json::array();
  for (std::size_t i = 0; i < plan.files.size(); ++i) {
    files.push_back({{"path", plan.files[i].path()}});
    if (ready != nullptr) files.back()["reached"] = kWayNames[ready->ways(static_cast<int>(i))];
  }
  nlohmann::json streams = nlohmann::json::array();
  for (const Stream& stream : plan.streams)
    streams.push_back({{"pid", stream.pid()}, {"fd", stream.fd()}, {"input", stream.input()}});
  nlohmann::json common = nlohmann::json::array();
  for (const CommonSegment& segment : plan.common) {
    nlohmann::json with = nlohmann::json::array();
    for (const CommonSegment::User& user : segment.staying) with.push_back(user.pid);
    common.push_back({{"memory", segment.name}, {"bytes", segment.bytes}, {"with", with}});
  }
  return {{"pid", plan.pid},
          {"command", plan.command},
          {"processes", plan.processes},
          {"threads", plan.threads},
          {"memory_bytes", plan.private_bytes},
          {"files", files},
          {"sockets", plan.sockets.size()},
          {"streams", streams},
          {"shared", common},
          {"terminal", plan.terminal ? plan.terminal->path() : ""},
          {"obstacles", plan.obstacles}};
}

nlohmann::json to_json(const HeldLocks& locks) {
  nlohmann::json all = nlohmann::json::array();
  for (const HeldLock& lock : locks.going)
    all.push_back({{"file", lock.path()}, {"lock", describe(lock)}, {"goes", true}});
  for (const HeldLocks::Staying& lock : locks.staying)
    all.push_back({{"file", lock.path}, {"goes", false}, {"why", lock.why}});
  return all;
}

nlohmann::json to_json(const Moved& moved, bool waited) {
  const Phases& p = moved.phases;
  nlohmann::json covers = nlohmann::json::array();
  for (const Cover& cover : moved.covers)
    covers.push_back({{"path", cover.path()}, {"home", cover.home()}});
  nlohmann::json json = {{"moved", true},
          {"pid", moved.there},
          {"image_bytes", moved.image_bytes},
          {"lazy_pages", moved.lazy_pages},
          {"hidden_pages", moved.hidden_pages},
          {"out_pages", moved.out_pages},
          {"covers", covers},
          {"locks", moved.locks},
          {"shared", {{"areas", moved.common.places},
                      {"bytes", moved.common.bytes},
                      {"others_stopped_ms", moved.common.stopped_ms}}},
          {"freeze_ms", p.freeze()},
          {"phases_ms",
           {{"stop", p.stop},
            {"leave", p.leave},
            {"dump", p.dump},
            {"transfer", p.transfer},
            {"restore", p.restore},
            {"fetch", p.fetch},
            {"make", p.make},
            {"join", p.join},
            {"take_over", p.take_over}}},
          {"hand_over_ms", p.hand_over}};
  if (waited) {
    const Arrived& all = moved.arrived;
    json["arrival"] = {{"complete", all.instead().empty()},
                       {"instead", all.instead()},
                       {"ms", moved.arrival},
                       {"faults", all.faults()},
                       {"fault_us_mean", all.faults() == 0 ? 0.0
                                                           : static_cast<double>(all.fault_ns()) / 1e3 /
                                                                 static_cast<double>(all.faults())},
                       {"fault_us_log2_histogram", all.slots()},
                       {"streamed_pages", all.streamed()}};
  }
  return json;
}

void print(const Plan& plan) {
  std::cout << "Process " << plan.pid << " (" << plan.command << "): " << plan.processes.size()
            << (plan.processes.size() == 1 ? " process, " : " processes, ") << plan.threads
            << (plan.threads == 1 ? " thread, " : " threads, ") << format_size(plan.private_bytes)
            << " of memory.\n";
  for (const CommonSegment& segment : plan.common) {
    std::cout << "It shares " << format_size(segment.bytes) << ", " << segment.name;
    for (const CommonSegment::User& user : segment.staying)
      std::cout << (&user == &segment.staying.front() ? ", with process " : ", ") << user.pid;
    std::cout << ": that becomes a container.\n";
  }
  for (const Stream& stream : plan.streams)
    std::cout << "Descriptor " << stream.fd() << " of process " << stream.pid()
              << " is a pipe to a process that stays: it will be relayed from where it was started.\n";
  if (plan.terminal)
    std::cout << "Its terminal " << plan.terminal->path()
              << " stays, and goes on showing what it writes.\n";
}

void print(const Plan& plan, const Ready& ready) {
  std::cout << "Its files, and how it will reach them:\n";
  for (std::size_t i = 0; i < plan.files.size(); ++i)
    std::cout << "  " << plan.files[i].path() << ": "
              << describe(ready.ways(static_cast<int>(i))) << '\n';
  if (ready.folders().empty()) return;
  std::cout << "These folders of this node will cover the target's, for the process:\n";
  for (const std::string& folder : ready.folders()) std::cout << "  " << folder << '\n';
}

void print(const HeldLocks& locks) {
  for (const HeldLock& lock : locks.going)
    std::cout << "It holds a lock, which goes along: " << describe(lock) << ".\n";
  for (const HeldLocks::Staying& lock : locks.staying)
    std::cout << "It holds a lock on " << lock.path << " now, which cannot go along (" << lock.why
              << "): it will be stopped at a moment when it does not.\n";
}

// Of a pidfd.
bool has_ended(const UniqueFd& process) {
  pollfd ended{process.get(), POLLIN, 0};
  return !process || ::poll(&ended, 1, 0) != 0;
}

constexpr int kDumps = 3;

// `dumps`: so many times, all in all, a dump is made anew if CRIU took a page for zeros by mistake.
int move(Flags& flags, int dumps = kDumps) {
  bool stopped = dumps != kDumps;  // for a moment, or about to be
  if (::geteuid() != 0)
    return fail(flags, kRefused, "moving processes needs root; run gobmigrate with sudo");
  flags.move.socket = socket_path(flags.move.socket);
  flags.move.lazy = flags.mode == "gob";
  flags.move.stream = !flags.no_stream;
  const auto plan = inspect(flags.move.pid, flags.addresses);
  if (!plan) return fail(flags, kRefused, plan.error().message());
  const auto criu = probe_criu(flags.move.criu);
  if (!criu) return fail(flags, kRefused, criu.error().message());
  // A move finds that out when CRIU starts, before anything is stopped.
  if (flags.dry_run)
    if (const Status works = try_criu(flags.move.criu, *criu); !works)
      return fail(flags, kRefused, works.error().message());
  HeldLocks locks;
  if (flags.dry_run) locks = held_locks(plan->processes, plan->covers, flags.move.node);
  if (flags.dry_run && !flags.json) {
    print(*plan);
    print(locks);
  }
  std::string why;
  for (const std::string& obstacle : plan->obstacles) why += (why.empty() ? "" : "\n  ") + obstacle;
  if (flags.dry_run) {
    std::optional<Ready> ready;
    if (why.empty()) {
      auto answer = ask_target(flags.move, *plan);
      if (answer)
        ready = std::move(*answer);
      else
        why = answer.error().message();
    }
    if (ready && !flags.json) print(*plan, *ready);
    if (flags.json) {
      nlohmann::json all = to_json(*plan, ready ? &*ready : nullptr);
      if (ready) all["folders"] = std::vector<std::string>(ready->folders().begin(), ready->folders().end());
      all["criu"] = *criu;
      all["locks"] = to_json(locks);
      all["target_refuses"] = plan->obstacles.empty() ? why : "";
      std::cout << all.dump(2) << '\n';
    } else {
      std::cout << (why.empty() ? "It can move to " + flags.move.node + ", with CRIU " + *criu
                                : "It cannot move: " + why)
                << '\n';
    }
    return why.empty() ? kOk : kRefused;
  }
  if (!why.empty()) return refuse(flags, *plan, why);
  const UniqueFd process = open_process(plan->pid);
  const auto running = [&](const Moved& there) {
    if (!flags.json)
      std::cout << "Process " << plan->pid << " runs on " << flags.move.node << " as "
                << there.there << "; it stood still for " << there.phases.freeze() << " ms"
                << std::endl;
  };
  const auto moved =
      migrate(flags.move, *plan, {.freezing = [&] { stopped = true; }, .running = running});
  if (!moved) {
    if (moved.error().code == ErrorCode::kLost)
      return fail(flags, kLostProcess, moved.error().message());
    if (moved.error().code == ErrorCode::kUnavailable && moved.error().errno_value == EAGAIN &&
        dumps > 1 && !has_ended(process)) {
      if (!flags.json)
        std::cerr << "gobmigrate: " << moved.error().context << "; trying again\n";
      return move(flags, dumps - 1);
    }
    if (has_ended(process))
      return fail(flags, kFailed,
                  "process " + std::to_string(plan->pid) +
                      " has ended before it could be moved; what failed then: " +
                      moved.error().message());
    if (!stopped) return refuse(flags, *plan, moved.error().message());
    return fail(flags, kFailed,
                "the process goes on here, it was not moved: " + moved.error().message());
  }
  if (flags.json) {
    std::cout << to_json(*moved, flags.move.wait).dump(2) << '\n';
  } else if (flags.move.wait) {
    const std::string& instead = moved->arrived.instead();
    std::cout << (instead.empty() ? "All its memory is there; this node is needed no more"
                                  : "Not all of its memory went there: " + instead)
              << '\n';
  }
  return kOk;
}

int run_serve(Flags& flags) {
  if (::geteuid() != 0) return fail(flags, kRefused, "gobmigrate serve needs root");
  // One that only was too slow may work another time.
  const auto give_up = [&](const Error& error) {
    return fail(flags, error.code == ErrorCode::kTimedOut ? kFailed : kRefused, error.message());
  };
  const auto criu = probe_criu(flags.move.criu);
  if (!criu) return give_up(criu.error());
  if (const Status works = try_criu(flags.move.criu, *criu); !works) return give_up(works.error());
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  const UniqueFd stop(::signalfd(-1, &set, SFD_CLOEXEC));
  const Status status =
      serve(socket_path(flags.move.socket), "/proc/self/exe", flags.move.criu, stop.get());
  return status ? kOk : fail(flags, kFailed, status.error().message());
}

int run_keep(const Flags& flags) {
  const Status status = keep_common(flags.move.socket, flags.link);
  if (status) return kOk;
  spdlog::error("keeping shared memory: {}", status.error().message());
  return kFailed;
}

int run_sweep(const Flags& flags) {
  const Status status = sweep_common(flags.move.socket);
  if (status) return kOk;
  spdlog::warn(
      "looking for shared memory that nobody has any more: {}; it is tried again in a minute",
      status.error().message());
  return kFailed;
}

int run_receive(const Flags& flags) {
  raise_file_limit();  // each child of the migrant costs some
  const Status status =
      run_target({.socket = flags.move.socket, .session = flags.session, .criu = flags.move.criu});
  if (status) return kOk;
  spdlog::error("{}: {}", flags.session, status.error().message());
  return kFailed;
}

}  // namespace

int main(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_IGN);
  spdlog::set_default_logger(spdlog::stderr_color_mt("gobmigrate"));
  Flags flags;
  const char* criu = std::getenv("GOB_CRIU");
  flags.move.criu = criu != nullptr && *criu != '\0' ? criu : "criu";
  CLI::App app("gobmigrate: moves a running process to another node of the cluster.", "gobmigrate");
  app.set_version_flag("--version", "gobmigrate " GOB_VERSION);
  app.footer(
      "  gobmigrate serve                  on every node that takes processes\n"
      "  gobmigrate 4711 n2 --dry-run      what would move, and what stands in the way\n"
      "  gobmigrate 4711 n2\n\n"
      "Exit status: 0 moved, 1 failed and the process goes on here, 2 wrong usage, 3 refused "
      "before\n"
      "anything was frozen, 4 the process was lost. Manual: gobmigrate(1).");
  const auto common = [&](CLI::App& at) {
    at.add_option("--socket", flags.move.socket, "Control socket of this node's gobd")
        ->type_name("PATH");
    at.add_option("--criu", flags.move.criu,
                  "The CRIU program, 3.17 or later, if not $GOB_CRIU or criu")
        ->type_name("PROGRAM");
  };
  common(app);
  app.add_option("PID", flags.move.pid, "The process; its descendants go with it")
      ->option_text(" ");
  app.add_option("NODE", flags.move.node, "Where it shall run")->option_text(" ");
  app.add_option("--mode", flags.mode,
                 "gob: memory follows on demand; basic: all memory goes before it runs again")
      ->check(CLI::IsMember({"gob", "basic"}))
      ->option_text("MODE (gob)");
  app.add_flag("--no-stream", flags.no_stream, "Bring no page before it is used");
  app.add_flag("--wait", flags.move.wait,
               "Return when all its memory is there, and this node can leave, or it has ended");
  app.add_flag(
      "--any-cpu", flags.move.any_cpu,
      "Even if the target's processor lacks what this one has, which the program does not use");
  app.add_option("--address", flags.addresses,
                 "An IPv4 address of this node that goes along, with the connections at it")
      ->type_name("ADDRESS")
      ->allow_extra_args(false);
  app.add_flag("--dry-run", flags.dry_run, "Only say what would move, and what is in the way");
  app.add_flag("--json", flags.json, "Answer in JSON, with the phases of the freeze");
  CLI::App* serving = app.add_subcommand("serve", "Take processes for this node");
  common(*serving);
  std::string shell;
  CLI::App* completing = app.add_subcommand("completion", "Print a completion script");
  completing->group("");  // for installers: not in the help
  completing->add_option("SHELL", shell)
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  CLI::App* receiving = app.add_subcommand("receive", "");
  receiving->group("");  // started by serve
  receiving->add_option("SESSION", flags.session)->required();
  common(*receiving);
  CLI::App* keeping = app.add_subcommand("keep", "");
  keeping->group("");  // started by whoever moves a process
  keeping->add_option("LINK", flags.link)->required();
  common(*keeping);
  CLI::App* sweeping = app.add_subcommand("sweep", "");
  sweeping->group("");  // started by serve
  common(*sweeping);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {  // --help, --version
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    say_usage_error(app, "gobmigrate", error, std::cerr);
    return kUsage;
  }
  if (completing->parsed()) {
    print_completion(app, "gobmigrate", shell, std::cout);
    return std::cout.flush() ? kOk : kFailed;
  }
  if (serving->parsed()) return run_serve(flags);
  if (receiving->parsed()) return run_receive(flags);
  if (keeping->parsed()) return run_keep(flags);
  if (sweeping->parsed()) return run_sweep(flags);
  if (flags.move.pid <= 0 || flags.move.node.empty()) {
    std::cerr << "gobmigrate: which process, and to which node? \"gobmigrate --help\" shows how it "
                 "is used.\n";
    return kUsage;
  }
  return move(flags);
}
