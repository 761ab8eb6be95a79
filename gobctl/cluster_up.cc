#include <sys/stat.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <sstream>

#include "gobctl/dev_cluster.h"
#include "gobctl/network.h"
#include "gobctl/startup.h"
#include "libgob/base/size.h"
#include "libgob/runtime/config.h"
#include "libgob/runtime/control_socket.h"

namespace gob::ctl {
namespace {

constexpr std::uint16_t kNamespacePort = 7400;

std::string in_seconds(std::chrono::milliseconds time) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.1f s", static_cast<double>(time.count()) / 1000);
  return text.data();
}

Status refuse_if_running(const ClusterDir& dir) {
  for (const std::string& name : dir.nodes()) {
    const auto process = find_process(dir.node(name));
    if (!process) return process.error();
    if (process->has_value())
      return make_error(ErrorCode::kAlreadyExists,
                        "a cluster runs in " + dir.path() + " (node " + name + ", process " +
                            std::to_string((*process)->pid()) +
                            "); end it with \"gobctl cluster down\", or start this one elsewhere "
                            "(--dir)");
  }
  return {};
}

// What an earlier cluster left whose nodes all died.
Status clear_remains(const ClusterDir& dir) {
  if (const auto names = read_file(dir.namespaces()); names.ok()) {
    std::istringstream lines(*names);
    std::vector<std::string> list;
    for (std::string line; std::getline(lines, line);) list.push_back(line);
    if (Status removed = remove_namespaces(list); !removed) return removed;
  }
  std::error_code error;
  for (const std::string& name : dir.nodes()) {
    if (Status gone = dir.remove_mount(name); !gone) return gone;
    std::filesystem::remove_all(dir.node(name).path(), error);
  }
  std::filesystem::remove(dir.namespaces(), error);
  return {};
}

Result<Namespaces> set_up_namespaces(const ClusterDir& dir, const std::vector<std::string>& nodes) {
  Namespaces plan = plan_namespaces(dir.tag(), nodes);
  std::string list;
  for (const std::string& name : plan.names) list += name + "\n";
  if (Status noted = write_file(dir.namespaces(), list); !noted) return noted.error();
  if (Status made = make_namespaces(plan); !made) {
    (void)remove_namespaces(plan.names).ok();
    std::error_code ignored;
    std::filesystem::remove(dir.namespaces(), ignored);
    return made.error();
  }
  return plan;
}

Status write_configs(const ClusterDir& dir, DaemonConfig config, const ClusterPlan& plan) {
  for (const NodeConfig& node : config.nodes) {
    const NodeDir files = dir.node(node.name);
    if (::mkdir(files.path().c_str(), 0755) != 0 && errno != EEXIST)
      return system_error("creating " + files.path());
    config.node = node.name;
    config.control_socket = files.socket();
    if (plan.swap_bytes != 0) {
      config.swap_dir = files.swap();
      if (::mkdir(files.swap().c_str(), 0700) != 0 && errno != EEXIST)
        return system_error("creating " + files.swap());
    }
    if (plan.mount) {
      config.mount = dir.mount(node.name);
      if (::mkdir(config.mount.c_str(), 0755) != 0 && errno != EEXIST)
        return system_error("creating " + config.mount);
    }
    if (Status good = check_config(config); !good) return good;
    if (Status written = write_file(files.config(), to_toml(config)); !written) return written;
  }
  return {};
}

Status start_all(const ClusterDir& dir, const DaemonConfig& config, const Namespaces& namespaces,
                 const std::string& gobd, const ClusterPlan& plan, Io& io) {
  auto startup = Startup::prepare(dir, gobd);
  if (!startup) return startup.error();
  for (std::size_t i = 0; i < config.nodes.size(); ++i) {
    const std::string network_namespace = plan.netns ? namespaces.names[i] : "";
    if (Status started = startup->start(config.nodes[i].name, network_namespace); !started)
      return started;
  }
  const auto on_ready = [&](const std::string& name, std::chrono::milliseconds time) {
    for (const NodeConfig& node : config.nodes)
      if (node.name == name)
        io.out << "  " << io.paint.good("ready") << "  " << name << "  " << node.host << ":"
               << node.port << "  after " << in_seconds(time) << std::endl;
  };
  if (Status ready = startup->wait(plan.timeout, on_ready); !ready) return ready;
  startup->keep();
  return {};
}

void tell_how_to_go_on(const ClusterDir& dir, bool default_dir, Io& io) {
  const std::string with_dir = default_dir ? "" : " --dir " + dir.path();
  io.out << "\nPrograms and gobctl reach node n1 with\n"
         << io.paint.bold("  export GOB_SOCKET=" + dir.node("n1").socket()) << "\n"
         << "and the others likewise, or with --node n2. Try\n"
         << "  gobctl nodes\n  gobctl create demo --size 64M\n  gobctl stat demo\n"
         << "Logs: " << dir.path() << "/n1/gobd.log and so on. End it with\n"
         << "  gobctl cluster down" << with_dir << '\n';
}

}  // namespace

Status cluster_up(const ClusterDir& dir, const ClusterPlan& plan, Io& io) {
  const auto gobd = find_gobd(plan.gobd);
  if (!gobd) return gobd.error();
  std::vector<std::string> names;
  for (std::uint32_t i = 1; i <= plan.nodes; ++i) names.push_back("n" + std::to_string(i));
  if (const auto fits = unix_address(dir.node(names.back()).socket()); !fits) return fits.error();

  if (Status made = dir.make(); !made) return made;
  const auto lock = dir.lock();
  if (!lock) return lock.error();
  if (Status free = refuse_if_running(dir); !free) return free;
  if (Status cleared = clear_remains(dir); !cleared) return cleared;

  DaemonConfig config;
  config.cluster = "dev-" + dir.tag();
  config.budget_bytes = plan.budget_bytes;
  if (plan.swap_bytes != 0) config.swap_bytes = plan.swap_bytes;
  config.shards = plan.shards;
  Namespaces namespaces;
  if (plan.netns) {
    auto made = set_up_namespaces(dir, names);
    if (!made) return made.error();
    namespaces = std::move(*made);
    for (std::size_t i = 0; i < names.size(); ++i)
      config.nodes.push_back({names[i], namespaces.addresses[i], kNamespacePort});
  } else {
    const auto ports = free_ports(names.size());
    if (!ports) return ports.error();
    for (std::size_t i = 0; i < names.size(); ++i)
      config.nodes.push_back({names[i], "127.0.0.1", (*ports)[i]});
  }
  io.out << "Starting "
         << io.paint.bold(std::to_string(plan.nodes) + (plan.nodes == 1 ? " node" : " nodes"))
         << " of " << *gobd << " in " << dir.path() << ", " << format_size(plan.budget_bytes)
         << " of frames each" << (plan.netns ? ", each in a network namespace" : "") << std::endl;
  Status started = write_configs(dir, config, plan);
  if (started) started = start_all(dir, config, namespaces, *gobd, plan, io);
  if (!started) {
    (void)remove_namespaces(namespaces.names).ok();
    std::error_code ignored;
    if (plan.netns) std::filesystem::remove(dir.namespaces(), ignored);
    return started;
  }
  tell_how_to_go_on(dir, ClusterDir().path() == dir.path(), io);
  return {};
}

}  // namespace gob::ctl
