// gobd: the daemon of one node. Parses, makes a Node, runs it. See gobd(8).
#include <malloc.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <optional>

#include "libgob/base/file_limit.h"
#include "libgob/base/size.h"
#include "libgob/base/usage.h"
#include "libgob/runtime/config.h"
#include "libgob/runtime/node.h"

namespace {

// Exit statuses, as in gobd(8).
enum ExitStatus : int { kOk = 0, kFailed = 1, kUsage = 2, kFenced = 75 };

struct Flags {
  std::string config = "/etc/gob/gobd.toml";
  std::string node;
  std::string budget;
  std::string control_socket;
  std::string swap_dir;
  std::string swap;
  std::string mount;
  std::string linker;
  std::string transport;
  std::string rdma_device;
  std::string log_level;
  std::string trace_dir;
  std::optional<std::uint32_t> shards;
  std::optional<std::uint32_t> page_timeout_ms;
  bool print_config = false;
  bool check = false;
};

void define(CLI::App& app, Flags& flags) {
  app.description(
      "gobd serves one node of a Gobelins cluster: it keeps pages of containers in this machine's\n"
      "memory, coherent with every other node, and gives them to local programs.\n\n"
      "For a cluster to try things on one machine, see 'gobctl cluster up'.");
  app.set_version_flag("--version", std::string("gobd ") + GOB_VERSION);
  app.add_option("-c,--config", flags.config, "Configuration file, see gobd.toml(5)")
      ->capture_default_str();
  app.add_option("-n,--node", flags.node, "Which of the configured nodes this one is");
  app.add_option("--budget", flags.budget, "Memory for pages on this node, such as 4G");
  app.add_option("--control-socket", flags.control_socket, "Where programs reach this node");
  app.add_option("--shards", flags.shards, "Protocol threads; the same on all nodes");
  app.add_option("--swap-dir", flags.swap_dir, "Where pages go that fit in no node's memory");
  app.add_option("--swap", flags.swap, "Most disk space to use there, such as 16G");
  app.add_option("--mount", flags.mount, "Folder where attached files appear");
  app.add_option("--linker", flags.linker,
                 "auto: the patched kernel's linkers for System V segments and linked files, where "
                 "/dev/gob is; "
                 "kernel: with them or not at all; userfaultfd: without");
  app.add_option("--transport", flags.transport,
                 "auto: RDMA to peers where both ends can, else TCP; verbs: RDMA or nothing; tcp");
  app.add_option("--rdma-device", flags.rdma_device, "Which one, as device or device:port");
  app.add_option("--page-timeout-ms", flags.page_timeout_ms,
                 "An access that waits longer ends in SIGBUS");
  app.add_option("--log-level", flags.log_level, "trace, debug, info, warn, error or critical");
  app.add_option("--trace-dir", flags.trace_dir,
                 "Record every page's history there (for checkers)");
  app.add_flag("--print-config", flags.print_config, "Print the resulting configuration and exit");
  app.add_flag("--check", flags.check, "Check configuration and kernel, then exit");
  app.footer(
      "Signals: SIGTERM and SIGINT hand the pages to the other nodes, then end; a second one ends "
      "at once.\nExit status: 0 left in good order, 1 failed, 2 wrong usage or configuration,\n"
      "75 put out of the cluster (start it again: it joins empty).");
}

gob::Result<std::uint64_t> size_flag(const char* name, const std::string& text) {
  gob::Result<std::uint64_t> size = gob::parse_size(text);
  if (!size)
    return gob::make_error(size.error().code, std::string(name) + ": " + size.error().context);
  return size;
}

gob::Result<gob::DaemonConfig> configure(const Flags& flags) {
  gob::Result<gob::DaemonConfig> loaded = gob::load_config(flags.config);
  if (!loaded) return loaded;
  gob::DaemonConfig config = std::move(*loaded);
  if (!flags.node.empty()) config.node = flags.node;
  if (!flags.control_socket.empty()) config.control_socket = flags.control_socket;
  if (!flags.swap_dir.empty()) config.swap_dir = flags.swap_dir;
  if (!flags.mount.empty()) config.mount = flags.mount;
  if (!flags.linker.empty()) config.linker = flags.linker;
  if (!flags.transport.empty()) config.transport = flags.transport;
  if (!flags.rdma_device.empty()) config.rdma_device = flags.rdma_device;
  if (!flags.log_level.empty()) config.log_level = flags.log_level;
  if (!flags.trace_dir.empty()) config.trace_dir = flags.trace_dir;
  if (flags.shards) config.shards = *flags.shards;
  if (flags.page_timeout_ms) config.page_timeout_ms = *flags.page_timeout_ms;
  if (!flags.budget.empty()) {
    const auto size = size_flag("--budget", flags.budget);
    if (!size) return size.error();
    config.budget_bytes = *size;
  }
  if (!flags.swap.empty()) {
    const auto size = size_flag("--swap", flags.swap);
    if (!size) return size.error();
    config.swap_bytes = *size;
  }
  if (const gob::Status status = gob::check_config(config); !status) return status.error();
  return config;
}

// All threads inherit the mask, so only the signalfd sees these.
int block_signals() {
  std::signal(SIGPIPE, SIG_IGN);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  if (sigprocmask(SIG_BLOCK, &set, nullptr) != 0) return -1;
  return ::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

// Tables that grow and buffers that come and go take memory that was given back before, rather than
// have the kernel give it anew, at a fault for every page.
void keep_memory() {
  constexpr int kMost = 32 << 20;  // as far as malloc goes by itself, too
  ::mallopt(M_MMAP_THRESHOLD, kMost);
  ::mallopt(M_TRIM_THRESHOLD, 2 * kMost);
}

// Whoever waits for a page, here or on another node, waits for gobd, and programs that have all
// processors would have it wait for them (docs/decisions/0042).
void go_before_programs(int nice) {
  if (nice == 0 || ::setpriority(PRIO_PROCESS, 0, nice) == 0) return;
  spdlog::info(
      "cannot take priority {} ({}): pages come later while programs have all processors; start "
      "gobd as root, or allow it (LimitNICE= in systemd, ulimit -e)",
      nice, std::strerror(errno));
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app;
  Flags flags;
  define(app, flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {  // --help, --version
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    gob::say_usage_error(app, "gobd", error, std::cerr);
    return kUsage;
  }
  spdlog::set_default_logger(spdlog::stderr_color_mt("gobd"));

  const gob::Result<gob::DaemonConfig> config = configure(flags);
  if (!config) {
    std::cerr << "gobd: " << config.error().message() << '\n';
    return kUsage;
  }
  if (flags.print_config) {
    std::cout << gob::to_toml(*config);
    return kOk;
  }
  spdlog::set_level(spdlog::level::from_str(config->log_level));

  const int stop_fd = block_signals();
  if (stop_fd < 0) {
    std::perror("gobd: cannot take signals");
    return kFailed;
  }
  gob::raise_file_limit();  // one for each peer, program and mapping
  keep_memory();
  if (!flags.check) go_before_programs(config->nice);
  gob::Result<std::unique_ptr<gob::Node>> node = gob::Node::create(*config);
  if (!node) {
    std::cerr << "gobd: " << node.error().message() << '\n';
    return kFailed;
  }
  if (flags.check) {
    std::cout << "configuration and kernel are fine\n";
    return kOk;
  }
  (*node)->on_ready([] {
    ::sd_notify(0, "READY=1\nSTATUS=serving");
    spdlog::info("ready");
  });
  const gob::NodeEnd end = (*node)->run(stop_fd);
  ::sd_notify(0, "STOPPING=1");
  switch (end) {
    case gob::NodeEnd::kLeft:
      return kOk;
    case gob::NodeEnd::kFenced:
      return kFenced;
    case gob::NodeEnd::kFailed:
      return kFailed;
  }
  return kFailed;
}
