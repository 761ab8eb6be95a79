#include <signal.h>

#include <algorithm>
#include <deque>
#include <sstream>

#include "gobctl/connection.h"
#include "gobctl/dev_cluster.h"
#include "gobctl/json.h"
#include "gobctl/network.h"
#include "gobctl/startup.h"
#include "libgob/base/ids.h"
#include "libgob/base/size.h"

namespace gob::ctl {
namespace {

constexpr std::chrono::seconds kKillTimeout{10};

struct Running {
  std::string node;
  Process process;
};

Result<std::vector<Running>> running_nodes(const ClusterDir& dir) {
  std::vector<Running> running;
  for (const std::string& name : dir.nodes()) {
    auto process = find_process(dir.node(name));
    if (!process) return process.error();
    if (process->has_value()) running.push_back({name, std::move(**process)});
  }
  return running;
}

// Ends them all; names those that had to be killed.
Status stop(const std::vector<Running>& nodes, std::chrono::milliseconds timeout, Io& io) {
  std::vector<const Process*> processes;
  for (const Running& node : nodes) {
    if (Status asked = node.process.signal(SIGTERM); !asked) return asked;
    processes.push_back(&node.process);
  }
  if (wait_for_end(processes, timeout)) return {};
  for (const Running& node : nodes) {
    if (wait_for_end({&node.process}, std::chrono::milliseconds(0))) continue;
    io.err << "gobctl: node " << node.node << " (process " << node.process.pid()
           << ") did not end within " << timeout.count() / 1000 << " s and is killed\n";
    if (Status killed = node.process.signal(SIGKILL); !killed) return killed;
  }
  if (wait_for_end(processes, kKillTimeout)) return {};
  return make_error(ErrorCode::kTimedOut, "a killed gobd does not end; see the kernel's log");
}

std::vector<std::string> noted_namespaces(const ClusterDir& dir) {
  std::vector<std::string> names;
  const auto text = read_file(dir.namespaces());
  std::istringstream lines(text.ok() ? *text : "");
  for (std::string line; std::getline(lines, line);) names.push_back(line);
  return names;
}

struct NodeReport {
  std::string node;
  pid_t pid = 0;  // 0: does not run
  std::string state;
  std::string socket;
  control::NodeStat stat;
};

NodeReport report(const ClusterDir& dir, const std::string& name) {
  NodeReport out;
  out.node = name;
  out.socket = dir.node(name).socket();
  const auto process = find_process(dir.node(name));
  if (!process || !process->has_value()) {
    out.state = process ? "not running" : process.error().message();
    return out;
  }
  out.pid = (*process)->pid();
  constexpr std::chrono::milliseconds kAnswerTimeout{2000};
  const auto client = ControlClient::connect(out.socket, "gobctl", kAnswerTimeout);
  control::Request request;
  request.mutable_stat();
  const auto reply = client ? ask(**client, std::move(request), kAnswerTimeout)
                            : Result<control::Reply>(client.error());
  out.state = reply ? "running" : "runs, but does not answer";
  if (reply) out.stat = reply->stat().node();
  return out;
}

Json to_json(const NodeReport& node) {
  Json json{{"node", node.node}, {"running", node.pid != 0}};
  json["pid"] = node.pid != 0 ? Json(node.pid) : Json();
  json["state"] = node.state;
  json["socket"] = node.socket;
  json["epoch"] = node.stat.epoch();
  json["members"] = node.stat.members_size();
  json["resident_frames"] = node.stat.resident_frames();
  json["budget_frames"] = node.stat.budget_frames();
  return json;
}

}  // namespace

Status cluster_down(const ClusterDir& dir, std::chrono::milliseconds timeout, bool keep, Io& io) {
  if (Status there = dir.check(); !there) return there;
  const auto lock = dir.lock();
  if (!lock) return lock.error();
  const auto running = running_nodes(dir);
  if (!running) return running.error();
  const std::size_t nodes = dir.nodes().size();
  if (Status stopped = stop(*running, timeout, io); !stopped) return stopped;
  if (Status removed = remove_namespaces(noted_namespaces(dir)); !removed) return removed;
  if (!keep)
    if (Status removed = dir.remove(); !removed) return removed;
  io.out << "Stopped " << running->size() << " of " << nodes << " nodes in " << dir.path()
         << (keep ? "; its files are kept" : "") << '\n';
  return {};
}

Status cluster_restart(const ClusterDir& dir, const std::string& node, const std::string& gobd,
                       std::chrono::milliseconds timeout, Io& io) {
  if (Status there = dir.check(); !there) return there;
  const auto program = find_gobd(gobd);
  if (!program) return program.error();
  const auto lock = dir.lock();
  if (!lock) return lock.error();
  if (!dir.has_node(node))
    return make_error(ErrorCode::kNotFound,
                      "no node '" + printable(node) + "' in the cluster of " + dir.path());
  auto process = find_process(dir.node(node));
  if (!process) return process.error();
  if (process->has_value()) {
    std::vector<Running> one;
    one.push_back({node, std::move(**process)});
    if (Status stopped = stop(one, timeout, io); !stopped) return stopped;
  }
  std::string network_namespace = "gob-" + dir.tag() + "-" + node;
  const auto namespaces = noted_namespaces(dir);
  if (std::find(namespaces.begin(), namespaces.end(), network_namespace) == namespaces.end())
    network_namespace.clear();
  auto startup = Startup::prepare(dir, *program);
  if (!startup) return startup.error();
  if (Status started = startup->start(node, network_namespace); !started) return started;
  const auto on_ready = [&](const std::string& name, std::chrono::milliseconds) {
    io.out << "  " << io.paint.good("ready") << "  " << name << '\n';
  };
  if (Status ready = startup->wait(timeout, on_ready); !ready) return ready;
  startup->keep();
  return {};
}

Status cluster_status(const ClusterDir& dir, bool json, Io& io) {
  if (Status there = dir.check(); !there) return there;
  std::size_t dead = 0;
  Json list = Json::array();
  Table table({{"NODE"},
               {"PID", Table::Align::kRight},
               {"STATE"},
               {"EPOCH", Table::Align::kRight},
               {"MEMBERS", Table::Align::kRight},
               {"FRAMES", Table::Align::kRight},
               {"SOCKET"}});
  for (const std::string& name : dir.nodes()) {
    const NodeReport node = report(dir, name);
    if (node.state != "running") ++dead;
    list.push_back(to_json(node));
    const bool answers = node.state == "running";
    table.add({name, node.pid == 0 ? "-" : std::to_string(node.pid), node.state,
               answers ? std::to_string(node.stat.epoch()) : "-",
               answers ? std::to_string(node.stat.members_size()) : "-",
               answers ? format_size(node.stat.resident_frames() * kPageSize) : "-", node.socket});
  }
  if (json)
    print_json(io.out, {{"dir", dir.path()}, {"nodes", list}});
  else
    table.print(io.out, io.paint);
  if (list.empty())
    return make_error(ErrorCode::kNotFound, "no development cluster in " + dir.path() +
                                                "; start one with \"gobctl cluster up\"");
  if (dead != 0)
    return make_error(ErrorCode::kUnavailable,
                      std::to_string(dead) + " of " + std::to_string(list.size()) +
                          " nodes do not serve; see their logs in " + dir.path() +
                          ", start one again with \"gobctl cluster restart NODE\"");
  return {};
}

}  // namespace gob::ctl
