#include "gobbench/migration/ways.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "gobbench/leftovers.h"
#include "gobbench/machine.h"
#include "gobbench/matrix.h"
#include "gobbench/migration/log_watch.h"
#include "gobbench/table.h"
#include "libgob/base/pipe.h"
#include "libgob/migration/criu.h"

namespace gob::bench {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kFrom = 0;
constexpr std::size_t kTo = 1;
constexpr std::chrono::seconds kReady{30};
constexpr std::chrono::seconds kStep{120};  // of a move
constexpr std::chrono::minutes kWhole{10};  // a run of the program
constexpr const char* kPort = "7401";       // on the nodes' own addresses
// The program's own, at both ends, and what carries it there.
constexpr std::uint64_t kCopiesOfAPage = 4;
constexpr std::uint64_t kMostWarmed = std::uint64_t{1} << 30;

// Process 1 of the namespaces in which CRIU makes the process: CRIU's own numbers are put out of the
// way; it ends with its standard input.
constexpr const char* kTargetScript =
    "echo \"$0\" >/proc/sys/kernel/ns_last_pid; \"$@\" || exit 1; echo restored; exec cat";

double ms_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

// Bytes that interfaces of a network namespace have sent.
std::uint64_t bytes_sent(int netns_fd) {
  std::uint64_t sum = 0;
  std::thread([&] {
    if (::setns(netns_fd, CLONE_NEWNET) != 0) return;
    std::ifstream devices("/proc/thread-self/net/dev");
    for (std::string line; std::getline(devices, line);) {
      const std::size_t colon = line.find(':');
      if (colon == std::string::npos || line.find(" lo:") != std::string::npos) continue;
      std::istringstream numbers(line.substr(colon + 1));
      std::uint64_t number = 0;
      for (int column = 0; column < 9 && numbers >> number; ++column) continue;
      sum += number;  // the ninth: bytes sent
    }
  }).join();
  return sum;
}

Result<UniqueFd> new_file(const std::string& path) {
  UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600));
  if (!file) return system_error("cannot make " + path);
  return file;
}

Status copy_images(const std::string& from, const std::string& to) {
  std::error_code error;
  for (const auto& file : fs::directory_iterator(from, error)) {
    fs::copy_file(file, fs::path(to) / file.path().filename(), error);
    if (error) return make_error(ErrorCode::kSystem, "copying CRIU's images", error.value());
  }
  return {};
}

}  // namespace

const char* name_of(Way way) {
  switch (way) {
    case Way::kStays:
      return "not moved";
    case Way::kGob:
      return "gob";
    case Way::kGobOnDemand:
      return "gob, on demand only";
    case Way::kBasic:
      return "basic";
    case Way::kCriuLazy:
      return "CRIU, lazy";
    case Way::kCriuFull:
      return "CRIU, full";
  }
  return "";
}

std::string find_gobmigrate() {
  std::error_code error;
  const fs::path folder = fs::read_symlink("/proc/self/exe", error).parent_path();
  for (const auto& candidate :
       {folder / "gobmigrate", folder.parent_path() / "gobmigrate" / "gobmigrate"})
    if (::access(candidate.c_str(), X_OK) == 0 && fs::is_regular_file(candidate)) return candidate;
  return "gobmigrate";
}

Result<Road> Road::open(const Session& session, const RoadOptions& options) {
  if (::geteuid() != 0)
    return make_error(ErrorCode::kInvalidArgument, "moving processes needs root");
  if (const auto version = migration::probe_criu(options.criu); !version) return version.error();
  ClusterOptions wanted;
  wanted.netns = true;  // as between machines
  wanted.budget_bytes = std::max(wanted.budget_bytes, 2 * options.largest_bytes);
  Result<Cluster> cluster = session.cluster(wanted);
  if (!cluster) return cluster.error();
  Road road(std::move(*cluster));
  road.gobmigrate_ = find_gobmigrate();
  road.criu_ = options.criu;
  const std::string path = road.cluster_.directory() + "/server.log";
  Result<UniqueFd> log = new_file(path);
  if (!log) return log.error();
  road.log_ = std::move(*log);
  SpawnOptions spawn;
  spawn.argv = {road.gobmigrate_, "serve", "--socket", road.cluster_.nodes()[kTo].control_socket,
                "--criu", road.criu_};
  spawn.stdout_fd = spawn.stderr_fd = road.log_.get();
  spawn.netns_fd = road.cluster_.nodes()[kTo].netns_fd;
  Result<Process> server = Process::spawn(spawn);
  if (!server) return server.error();
  road.server_ = std::move(*server);
  if (const auto ready = await_line(path, "taking processes", kReady); !ready)
    return ready.error();
  return road;
}

Result<Trip> Road::travel(Way way, MigrantOptions program) {
  const std::string number = std::to_string(++trips_);
  program.file = cluster_.directory() + "/trip" + number;
  if (Result<UniqueFd> made = new_file(program.file); !made) return made.error();
  // Images stay in memory, as gobmigrate's do.
  const Result<TemporaryDirectory> images = TemporaryDirectory::create("/dev/shm");
  if (!images) return images.error();
  from_ = images->path() + "/from";
  to_ = images->path() + "/to";
  std::error_code error;
  for (const std::string& folder : {from_, to_}) fs::create_directories(folder, error);
  if (error) return make_error(ErrorCode::kSystem, "cannot make " + images->path(), error.value());
  const std::uint64_t copies = kCopiesOfAPage * Matrix::bytes_of(program.lines, program.lines);
  if (Status s = warm_memory(std::min(copies, kMostWarmed)); !s) return s.error();
  SpawnOptions spawn;
  spawn.argv = {"/proc/self/exe", "migrant", "--lines", std::to_string(program.lines),
                "--steps", std::to_string(program.steps), "--seconds",
                std::to_string(program.seconds), "--file", program.file};
  spawn.stdout_fd = spawn.stderr_fd = log_.get();
  spawn.netns_fd = cluster_.nodes()[kFrom].netns_fd;
  Trip trip;
  const Status status = [&]() -> Status {
    Result<Process> process = Process::spawn(spawn);
    if (!process) return process.error();
    if (const auto begun = await_line(program.file, kUnderWay, kWhole); !begun)
      return begun.error();
    const std::uint64_t before = bytes_sent(spawn.netns_fd);
    if (Status moved = move(way, *process, trip); !moved) return moved;
    if (Result<UniqueFd> stop = new_file(program.file + ".stop"); !stop) return stop.error();
    const auto line = await_line(program.file, "digest", kWhole);
    if (!line) return line.error();
    const auto report = parse_report(*line);
    if (!report) return report.error();
    trip.report = *report;
    trip.sent_bytes = bytes_sent(spawn.netns_fd) - before;
    return {};
  }();
  // The program first, then what serves its memory.
  target_.reset();
  helpers_.clear();
  if (!status)
    return make_error(status.error().code,
                      std::string("moving a matrix of ") + std::to_string(program.lines) +
                          " lines by " + name_of(way) + ": " + status.error().message());
  if (trip.report.error > 1e-6)
    return make_error(ErrorCode::kSystem, std::string("wrong result after a move by ") +
                                              name_of(way) + ": vectors are not orthogonal");
  return trip;
}

Status Road::move(Way way, const Process& program, Trip& trip) {
  switch (way) {
    case Way::kStays:
      return {};
    case Way::kGob:
    case Way::kGobOnDemand:
    case Way::kBasic:
      return by_gobmigrate(way, program.pid(), trip);
    case Way::kCriuLazy:
      return by_criu_lazily(program.pid(), trip);
    case Way::kCriuFull:
      return by_criu_fully(program.pid(), trip);
  }
  return {};
}

Status Road::by_gobmigrate(Way way, pid_t pid, Trip& trip) {
  const std::string path = cluster_.directory() + "/moved" + std::to_string(trips_);
  const Result<UniqueFd> out = new_file(path);
  if (!out) return out.error();
  SpawnOptions spawn;
  spawn.argv = {gobmigrate_,
                std::to_string(pid),
                cluster_.nodes()[kTo].name,
                "--socket",
                cluster_.nodes()[kFrom].control_socket,
                "--criu",
                criu_,
                "--json",
                "--wait",
                "--mode",
                way == Way::kBasic ? "basic" : "gob"};
  if (way == Way::kGobOnDemand) spawn.argv.emplace_back("--no-stream");
  spawn.stdout_fd = out->get();
  spawn.stderr_fd = log_.get();
  spawn.netns_fd = cluster_.nodes()[kFrom].netns_fd;
  Result<Process> mover = Process::spawn(spawn);
  if (!mover) return mover.error();
  const Status moved = mover->wait(kWhole);
  std::ifstream file(path);
  const Json said = Json::parse(file, nullptr, false);
  try {
    if (!moved)
      return make_error(moved.error().code, said.value("error", moved.error().message()));
    const Json& phases = said.at("phases_ms");
    trip.phases = {phases.at("dump"), phases.at("transfer"), phases.at("restore"),
                   phases.at("take_over")};
    const Json& arrival = said.at("arrival");
    trip.faults = arrival.at("faults");
    trip.fault_us = arrival.at("fault_us_mean");
    trip.fault_slots = arrival.at("fault_us_log2_histogram").get<std::vector<std::uint64_t>>();
    return {};
  } catch (const Json::exception&) {
    return make_error(ErrorCode::kProtocol, "gobmigrate's answer is odd: " + end_of(path));
  }
}

SpawnOptions Road::criu(std::size_t node, const std::string& folder,
                        const std::vector<std::string>& arguments) const {
  SpawnOptions spawn;
  spawn.argv = {criu_,   arguments.front(), "--images-dir", folder, "--work-dir", folder,
                "--log-file", arguments.front() + ".log", "-v1"};
  spawn.argv.insert(spawn.argv.end(), arguments.begin() + 1, arguments.end());
  spawn.stdout_fd = spawn.stderr_fd = log_.get();
  spawn.netns_fd = cluster_.nodes()[node].netns_fd;
  return spawn;
}

Result<Process> Road::start_criu(std::size_t node, const std::string& folder,
                                 std::vector<std::string> arguments, std::size_t pages) const {
  Result<Pipe> ready = make_pipe();
  if (!ready) return ready.error();
  arguments.insert(arguments.end(), {"--address", address(pages), "--port", kPort, "--status-fd", "1"});
  SpawnOptions spawn = criu(node, folder, arguments);
  spawn.stdout_fd = ready->in.get();
  Result<Process> started = Process::spawn(spawn);
  if (!started) return started;
  ready->in.reset();
  const std::string& command = arguments.front();
  if (Status s = await_word(ready->out.get(), *started, "CRIU's " + command, kStep); !s)
    return criu_failed(s.error(), folder, command);
  return started;
}

Error Road::criu_failed(const Error& error, const std::string& folder,
                        const std::string& command) const {
  return make_error(error.code, error.message() + "; CRIU's log: " +
                                    migration::errors_of_log(folder + "/" + command + ".log"));
}

// As its manual says: the source waits with the memory; a daemon at the target fetches it from
// there for the process, and in the background.
Status Road::by_criu_lazily(pid_t pid, Trip& trip) {
  auto begin = Clock::now();
  Result<Process> source = start_criu(
      kFrom, from_, {"dump", "--tree", std::to_string(pid), "--shell-job", "--lazy-pages"}, kFrom);
  if (!source) return source.error();
  helpers_.push_back(std::move(*source));
  trip.phases[0] = ms_since(begin);
  begin = Clock::now();
  if (Status s = copy_images(from_, to_); !s) return s;
  trip.phases[1] = ms_since(begin);
  begin = Clock::now();
  Result<Process> daemon = start_criu(kTo, to_, {"lazy-pages", "--page-server"}, kFrom);
  if (!daemon) return daemon.error();
  helpers_.push_back(std::move(*daemon));
  if (Status s = restore(true, pid); !s) return s;
  trip.phases[2] = ms_since(begin);
  return {};
}

// Memory goes straight to the target's page server.
Status Road::by_criu_fully(pid_t pid, Trip& trip) {
  Result<Process> server = start_criu(kTo, to_, {"page-server"}, kTo);
  if (!server) return server.error();
  auto begin = Clock::now();
  Result<Process> source =
      Process::spawn(criu(kFrom, from_,
                          {"dump", "--tree", std::to_string(pid), "--shell-job", "--page-server",
                           "--address", address(kTo), "--port", kPort}));
  if (!source) return source.error();
  if (Status s = source->wait(kStep); !s) return criu_failed(s.error(), from_, "dump");
  if (Status s = server->wait(kStep); !s) return criu_failed(s.error(), to_, "page-server");
  trip.phases[0] = ms_since(begin);
  begin = Clock::now();
  if (Status s = copy_images(from_, to_); !s) return s;
  trip.phases[1] = ms_since(begin);
  begin = Clock::now();
  if (Status s = restore(false, pid); !s) return s;
  trip.phases[2] = ms_since(begin);
  return {};
}

// In namespaces of its own, where its number is free.
Status Road::restore(bool lazy, pid_t pid) {
  Result<Pipe> made = make_pipe();
  if (!made) return made.error();
  Result<Pipe> held = make_pipe();
  if (!held) return held.error();
  SpawnOptions spawn = criu(kTo, to_, {"restore", "--restore-detached", "--shell-job"});
  if (lazy) spawn.argv.emplace_back("--lazy-pages");
  int highest = 32'768;
  std::ifstream("/proc/sys/kernel/pid_max") >> highest;
  std::vector<std::string> argv = {"unshare", "--pid", "--fork", "--kill-child", "--mount-proc",
                                   "--propagation", "private", "/bin/sh", "-c", kTargetScript,
                                   std::to_string(pid > highest / 2 ? 300 : highest - 300)};
  argv.insert(argv.end(), spawn.argv.begin(), spawn.argv.end());
  spawn.argv = std::move(argv);
  spawn.stdin_fd = held->out.get();
  spawn.stdout_fd = made->in.get();
  Result<Process> target = Process::spawn(spawn);
  if (!target) return target.error();
  made->in.reset();
  target_ = std::move(held->in);
  // Ended before the others.
  helpers_.insert(helpers_.begin(), std::move(*target));
  if (Status s = await_word(made->out.get(), helpers_.front(), "CRIU's restore", kStep); !s)
    return criu_failed(s.error(), to_, "restore");
  return {};
}

}  // namespace gob::bench
