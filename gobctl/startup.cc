#include "gobctl/startup.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>

namespace gob::ctl {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t kLogLines = 12;  // shown when a node does not start
constexpr std::chrono::seconds kKillTimeout{10};

bool is_program(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored) && ::access(path.c_str(), X_OK) == 0;
}

std::string indented(const std::string& text) {
  std::string out;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) out += "\n    " + line;
  return out.empty() ? "\n    (empty)" : out;
}

}  // namespace

Result<Startup> Startup::prepare(const ClusterDir& dir, std::string gobd) {
  auto notify = NotifySocket::bind(dir.notify_socket());
  if (!notify) return notify.error();
  sigset_t set;
  ::sigemptyset(&set);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) ::sigaddset(&set, number);
  if (::sigprocmask(SIG_BLOCK, &set, nullptr) != 0) return system_error("blocking signals");
  UniqueFd interrupts(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!interrupts) return system_error("watching for interrupts");
  return Startup(dir, std::move(gobd), std::move(*notify), std::move(interrupts));
}

Startup::~Startup() {
  std::vector<const Process*> processes;
  for (const Started& node : started_) {
    // Not SIGTERM: there is nothing in it yet that would have to be handed to others.
    (void)node.process.signal(SIGKILL).ok();
    processes.push_back(&node.process);
  }
  (void)wait_for_end(processes, kKillTimeout);
}

Status Startup::start(const std::string& node, const std::string& network_namespace) {
  const NodeDir files = dir_.node(node);
  Command command;
  command.argv = {gobd_, "--config", files.config()};
  command.environment = {"NOTIFY_SOCKET=" + dir_.notify_socket()};
  command.log = files.log();
  command.network_namespace = network_namespace;
  const auto now = Clock::now();
  auto process = start_daemon(command);
  if (!process) return process.error();
  started_.push_back({node, std::move(*process), now, false, ""});
  return record_process(files, started_.back().process);
}

Error Startup::not_ready(const Started& node, const std::string& why) const {
  const NodeDir files = dir_.node(node.node);
  return make_error(ErrorCode::kUnavailable,
                    "starting node " + node.node + ": gobd " + why +
                        (node.status.empty() ? "" : "; it last said: " + node.status) +
                        ". The end of its log (" + files.log() +
                        "):" + indented(last_lines(files.log(), kLogLines)));
}

Status Startup::wait(
    std::chrono::milliseconds timeout,
    const std::function<void(const std::string&, std::chrono::milliseconds)>& on_ready) {
  const auto deadline = Clock::now() + timeout;
  const auto waiting = [&] {
    return std::find_if(started_.begin(), started_.end(),
                        [](const Started& node) { return !node.ready; });
  };
  while (waiting() != started_.end()) {
    std::vector<pollfd> fds = {{notify_.fd(), POLLIN, 0}, {interrupts_.get(), POLLIN, 0}};
    for (const Started& node : started_) fds.push_back({node.process.fd(), POLLIN, 0});
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    const int events =
        ::poll(fds.data(), fds.size(), static_cast<int>(std::max<std::int64_t>(left, 0)));
    if (events < 0 && errno != EINTR) return system_error("waiting for gobd");
    if (events == 0)
      return not_ready(*waiting(), "was not ready after " + std::to_string(timeout.count() / 1000) +
                                       " s (--timeout)");
    while (const auto message = notify_.receive()) {
      for (Started& node : started_) {
        if (node.process.pid() != message->pid) continue;
        if (!message->status.empty()) node.status = message->status;
        if (!message->ready || node.ready) continue;
        node.ready = true;
        // If --gobd is a script, it has become gobd since.
        if (Status known = record_process(dir_.node(node.node), node.process); !known) return known;
        on_ready(node.node,
                 std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - node.since));
      }
    }
    if ((fds[1].revents & POLLIN) != 0)
      return make_error(ErrorCode::kUnavailable, "interrupted; what was started is stopped", EINTR);
    for (std::size_t i = 0; i < started_.size(); ++i)
      if (fds[i + 2].revents != 0)
        return not_ready(started_[i], started_[i].process.end_in_words());
  }
  return {};
}

Result<std::string> find_gobd(const std::string& asked) {
  if (!asked.empty()) {
    if (is_program(asked)) return fs::absolute(asked).lexically_normal().string();
    return make_error(ErrorCode::kNotFound, "--gobd " + asked + " is no program that can be run");
  }
  std::error_code ignored;
  const fs::path here = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  for (const char* place : {"gobd", "../gobd/gobd", "../sbin/gobd"})
    if (const fs::path path = (here / place).lexically_normal(); is_program(path))
      return path.string();
  const char* search = std::getenv("PATH");
  std::istringstream folders(search == nullptr ? "" : search);
  for (std::string folder; std::getline(folders, folder, ':');)
    if (is_program(fs::path(folder) / "gobd"))
      return fs::absolute(fs::path(folder) / "gobd").lexically_normal().string();
  return make_error(ErrorCode::kNotFound, "no gobd beside " + here.string() +
                                              "/gobctl nor in $PATH; say where it is (--gobd)");
}

}  // namespace gob::ctl
