#include "gobbench/cluster.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "gobbench/publish.h"
#include "libgob/runtime/config.h"

namespace gob::bench {
namespace {

constexpr std::chrono::seconds kReadyTimeout{30};
constexpr std::size_t kLogEndBytes = 2000;
constexpr std::uint16_t kNetnsPort = 7400;

// Ports nobody listens on. All are held until all are chosen, so that they differ.
Result<std::vector<std::uint16_t>> free_ports(unsigned count) {
  std::vector<UniqueFd> sockets;
  std::vector<std::uint16_t> ports;
  for (unsigned i = 0; i < count; ++i) {
    sockets.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    if (!sockets.back() || ::bind(sockets.back().get(), generic, length) != 0 ||
        ::getsockname(sockets.back().get(), generic, &length) != 0)
      return system_error("cannot find a free TCP port on 127.0.0.1");
    ports.push_back(ntohs(address.sin_port));
  }
  return ports;
}

// Where a daemon says that it is ready (sd_notify(3)).
Result<UniqueFd> notification_socket(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path))
    return make_error(
        ErrorCode::kInvalidArgument,
        "the path " + path + " is too long for a socket; set TMPDIR to a shorter one");
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd || ::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0)
    return system_error("cannot listen for readiness at " + path);
  return fd;
}

// True once a datagram says READY=1.
bool says_ready(int fd) {
  std::array<char, 1024> text{};
  for (;;) {
    const ssize_t got = ::recv(fd, text.data(), text.size(), 0);
    if (got <= 0) return false;
    const std::string_view words(text.data(), static_cast<std::size_t>(got));
    if (words.find("READY=1") != std::string_view::npos) return true;
  }
}

std::string end_of_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  return text.size() <= kLogEndBytes ? text : "..." + text.substr(text.size() - kLogEndBytes);
}

}  // namespace

std::string find_gobd() {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::filesystem::path folder = self.parent_path();
  for (const auto& candidate : {folder / "gobd", folder.parent_path() / "gobd" / "gobd"})
    if (::access(candidate.c_str(), X_OK) == 0 && std::filesystem::is_regular_file(candidate))
      return candidate;
  return "gobd";
}

Result<Cluster> Cluster::start(const ClusterOptions& options) {
  Cluster cluster;
  Result<TemporaryDirectory> directory = TemporaryDirectory::create();
  if (!directory) return directory.error();
  cluster.directory_.emplace(std::move(*directory));
  if (Status s = cluster.launch(options); !s) return s.error();
  return cluster;
}

Status Cluster::launch(const ClusterOptions& options) {
  std::vector<std::uint16_t> ports(options.nodes, kNetnsPort);
  if (options.netns) {
    Result<Network> network = Network::create(options.nodes, options.bits_per_second);
    if (!network) return network.error();
    network_.emplace(std::move(*network));
  } else {
    Result<std::vector<std::uint16_t>> found = free_ports(options.nodes);
    if (!found) return found.error();
    ports = *found;
  }
  const std::vector<unsigned> cpus = usable_cpus();
  DaemonConfig config;
  config.cluster = "gobbench-" + std::to_string(::getpid());
  config.budget_bytes = options.budget_bytes;
  config.shards = options.shards;
  config.transport = options.transport;
  config.log_level = "warn";
  if (options.read_ahead_pages) config.read_ahead_pages = *options.read_ahead_pages;
  for (unsigned n = 0; n < options.nodes; ++n) {
    ClusterNode node;
    node.name = "n" + std::to_string(n + 1);
    node.host = options.netns ? Network::address(n) : "127.0.0.1";
    node.control_socket = directory_->path() + "/" + node.name + "/gobd.sock";
    if (options.mount) node.mount = directory_->path() + "/" + node.name + ".mnt";
    if (network_) node.netns_fd = network_->netns_fd(n);
    if (options.pin && options.nodes <= cpus.size()) node.cpu = cpus[n];
    config.nodes.push_back({node.name, node.host, ports[n]});
    nodes_.push_back(std::move(node));
  }

  std::vector<UniqueFd> notifications;
  const std::string gobd = options.gobd.empty() ? find_gobd() : options.gobd;
  for (const ClusterNode& node : nodes_) {
    const std::string folder = directory_->path() + "/" + node.name;
    config.node = node.name;
    config.control_socket = node.control_socket;
    config.mount = node.mount;
    if (!node.mount.empty()) {
      if (::mkdir(node.mount.c_str(), 0755) != 0) return system_error("cannot make " + node.mount);
      mounts_.emplace_back(node.mount);
    }
    if (Status s = write_file(folder, "gobd.toml", to_toml(config)); !s) return s;
    Result<UniqueFd> notification = notification_socket(folder + "/ready");
    if (!notification) return notification.error();
    notifications.push_back(std::move(*notification));
    const UniqueFd log(
        ::open((folder + "/gobd.log").c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!log) return system_error("cannot write " + folder + "/gobd.log");
    SpawnOptions spawn;
    spawn.argv = {gobd, "--config", folder + "/gobd.toml"};
    spawn.environment = {"NOTIFY_SOCKET=" + folder + "/ready"};
    spawn.stdout_fd = log.get();
    spawn.stderr_fd = log.get();
    spawn.netns_fd = node.netns_fd;
    spawn.cpu = node.cpu;
    Result<Process> daemon = Process::spawn(spawn);
    if (!daemon && daemon.error().code == ErrorCode::kNotFound)
      return make_error(
          ErrorCode::kNotFound,
          "cannot start a private cluster: gobd is neither beside gobbench nor in PATH; "
          "install it, or use a running cluster with --cluster-dir");
    if (!daemon) return daemon.error();
    daemons_.push_back(std::move(*daemon));
  }
  return wait_ready(notifications);
}

Status Cluster::wait_ready(std::vector<UniqueFd>& notifications) {
  const auto deadline = std::chrono::steady_clock::now() + kReadyTimeout;
  for (std::size_t n = 0; n < daemons_.size(); ++n) {
    const auto failed = [&](const std::string& why) {
      return make_error(ErrorCode::kUnavailable, "gobd of node " + nodes_[n].name + " " + why +
                                                     "; its log ends:\n" +
                                                     log_end(static_cast<unsigned>(n)));
    };
    while (!says_ready(notifications[n].get())) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
          deadline - std::chrono::steady_clock::now());
      std::array<pollfd, 2> fds{
          {{notifications[n].get(), POLLIN, 0}, {daemons_[n].pidfd(), POLLIN, 0}}};
      const int ready =
          left.count() <= 0 ? 0 : ::poll(fds.data(), fds.size(), static_cast<int>(left.count()));
      if (ready < 0 && errno != EINTR) return system_error("cannot wait for gobd");
      if (ready == 0)
        return failed("was not ready within " + std::to_string(kReadyTimeout.count()) + " s");
      if (ready > 0 && fds[1].revents != 0 && fds[0].revents == 0) {
        const std::string how = daemons_[n].ending();
        return failed((how.empty() ? "exited" : how) + " before it was ready");
      }
    }
  }
  return {};
}

Result<Cluster> Cluster::attach(const std::string& directory) {
  const auto failed = [&](const std::string& why) {
    return make_error(ErrorCode::kNotFound, "no development cluster in " + directory + ": " + why +
                                                "; start one with gobctl cluster up --dir DIR");
  };
  Result<DaemonConfig> first = load_config(directory + "/n1/gobd.toml");
  if (!first) return failed(first.error().message());
  Cluster cluster;
  for (const NodeConfig& node : first->nodes) {
    Result<DaemonConfig> config = load_config(directory + "/" + node.name + "/gobd.toml");
    if (!config) return failed(config.error().message());
    cluster.nodes_.push_back(
        {node.name, node.host, config->control_socket, config->mount, -1, std::nullopt});
  }
  return cluster;
}

std::string Cluster::log_end(unsigned node) const {
  if (!directory_) return "";
  return end_of_file(directory_->path() + "/" + nodes_[node].name + "/gobd.log");
}

}  // namespace gob::bench
