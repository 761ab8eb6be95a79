#include "gobctl/network.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "libgob/base/unique_fd.h"

namespace gob::ctl {
namespace {

constexpr std::uint16_t kLowestPort = 10'000;

std::uint16_t first_outgoing_port() {
  std::ifstream range("/proc/sys/net/ipv4/ip_local_port_range");
  unsigned low = 0;
  constexpr unsigned kUsual = 32'768;
  if (!(range >> low) || low < kLowestPort + 1000u || low > 65'535) low = kUsual;
  return static_cast<std::uint16_t>(low);
}

bool is_free(std::uint16_t port) {
  const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return socket && ::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
}

// Runs ip(8) in a namespace (empty: this one) with commands on its standard input.
Status run_ip(const std::string& network_namespace, const std::string& commands) {
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) return system_error("creating a pipe");
  UniqueFd input(ends[0]);
  UniqueFd output(ends[1]);
  // A pipe takes 64 KiB at once, far more than the commands of the largest cluster.
  if (::write(output.get(), commands.data(), commands.size()) !=
      static_cast<ssize_t>(commands.size()))
    return system_error("handing commands to ip(8)");
  output.reset();
  std::vector<const char*> argv = {"ip"};
  if (!network_namespace.empty()) argv.insert(argv.end(), {"-n", network_namespace.c_str()});
  argv.insert(argv.end(), {"-batch", "-", nullptr});
  const pid_t pid = ::fork();
  if (pid < 0) return system_error("starting ip(8)");
  if (pid == 0) {
    ::dup2(input.get(), STDIN_FILENO);
    ::execvp("ip", const_cast<char* const*>(argv.data()));
    ::_exit(127);
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) return system_error("waiting for ip(8)");
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
    return make_error(ErrorCode::kUnsupported,
                      "ip(8) was not found; install iproute2, or leave --netns out");
  return make_error(ErrorCode::kSystem,
                    "setting up network namespaces: ip(8) failed (see above) at\n" + commands);
}

}  // namespace

Result<std::vector<std::uint16_t>> free_ports(std::size_t count) {
  const std::uint32_t ports = first_outgoing_port() - kLowestPort;
  // Clusters that start at the same time should not try the same ports.
  std::uint32_t next = std::random_device{}() % ports;
  std::vector<std::uint16_t> found;
  for (std::uint32_t tried = 0; tried < ports && found.size() < count; ++tried) {
    const auto port = static_cast<std::uint16_t>(kLowestPort + next);
    next = (next + 1) % ports;
    if (is_free(port)) found.push_back(port);
  }
  if (found.size() < count)
    return make_error(ErrorCode::kUnavailable,
                      "too few ports of 127.0.0.1 are free for " + std::to_string(count) + " nodes",
                      EADDRINUSE);
  return found;
}

Namespaces plan_namespaces(const std::string& tag, const std::vector<std::string>& nodes) {
  Namespaces plan;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    plan.names.push_back("gob-" + tag + "-" + nodes[i]);
    plan.addresses.push_back("10.78.0." + std::to_string(i + 1));
  }
  plan.names.push_back("gob-" + tag + "-net");
  return plan;
}

Status make_namespaces(const Namespaces& plan) {
  if (::geteuid() != 0)
    return make_error(ErrorCode::kPermissionDenied,
                      "--netns makes network namespaces, which needs root; run gobctl as root "
                      "(sudo), or leave --netns out to use ports of 127.0.0.1",
                      EPERM);
  const std::string& bridge = plan.names.back();
  std::string here;
  std::string inside = "link add br0 type bridge\nlink set br0 up\n";
  for (const std::string& name : plan.names) here += "netns add " + name + "\n";
  for (std::size_t i = 0; i < plan.addresses.size(); ++i) {
    const std::string port = "p" + std::to_string(i + 1);
    here += "link add eth0 netns " + plan.names[i] + " type veth peer name " + port + " netns " +
            bridge + "\n";
    inside += "link set " + port + " master br0 up\n";
  }
  if (Status made = run_ip("", here); !made) return made;
  if (Status bridged = run_ip(bridge, inside); !bridged) return bridged;
  for (std::size_t i = 0; i < plan.addresses.size(); ++i) {
    const std::string commands =
        "link set lo up\naddress add " + plan.addresses[i] + "/24 dev eth0\nlink set eth0 up\n";
    if (Status set = run_ip(plan.names[i], commands); !set) return set;
  }
  return {};
}

Status remove_namespaces(const std::vector<std::string>& names) {
  std::string commands;
  std::error_code ignored;
  for (const std::string& name : names)
    if (name.starts_with("gob-") && std::filesystem::exists("/run/netns/" + name, ignored))
      commands += "netns delete " + name + "\n";
  return commands.empty() ? Status() : run_ip("", commands);
}

}  // namespace gob::ctl
