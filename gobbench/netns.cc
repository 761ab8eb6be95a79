#include "gobbench/netns.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "gobbench/process.h"

namespace gob::bench {
namespace {

// A thread of its own makes the namespace, since unshare() moves the thread that calls it.
Result<UniqueFd> new_namespace() {
  UniqueFd fd;
  int error = 0;
  std::thread([&] {
    if (::unshare(CLONE_NEWNET) == 0)
      fd = UniqueFd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    error = errno;
  }).join();
  if (fd) return fd;
  return make_error(error == EPERM ? ErrorCode::kPermissionDenied : ErrorCode::kSystem,
                    "cannot make a network namespace (--netns needs root)", error);
}

// `words`: ip or tc, and what it is to do.
Status run_in(int netns_fd, std::vector<std::string> words) {
  SpawnOptions options;
  options.argv = std::move(words);
  options.netns_fd = netns_fd;
  const Result<std::string> done = output_of(options);
  if (done) return {};
  if (done.error().code == ErrorCode::kNotFound)
    return make_error(ErrorCode::kNotFound,
                      "--netns needs the programs ip and tc; install iproute2");
  return done.error();
}

}  // namespace

std::string Network::address(unsigned node) { return "10.79.0." + std::to_string(node + 1); }

Result<Network> Network::create(unsigned nodes, std::uint64_t bits_per_second) {
  if (nodes > kMaxNodes)
    return make_error(ErrorCode::kInvalidArgument,
                      "--netns takes at most " + std::to_string(kMaxNodes) + " nodes");
  Network network;
  Result<UniqueFd> bridge = new_namespace();
  if (!bridge) return bridge.error();
  network.bridge_ = std::move(*bridge);
  const int hub = network.bridge_.get();
  if (Status s = run_in(hub, {"ip", "link", "add", "bridge0", "type", "bridge"}); !s)
    return s.error();
  if (Status s = run_in(hub, {"ip", "link", "set", "bridge0", "up"}); !s) return s.error();
  for (unsigned n = 0; n < nodes; ++n) {
    Result<UniqueFd> made = new_namespace();
    if (!made) return made.error();
    network.nodes_.push_back(std::move(*made));
    const int node = network.nodes_.back().get();
    const std::string port = "port" + std::to_string(n);
    const std::string place = "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(node);
    const std::vector<std::vector<std::string>> at_hub = {
        {"ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", place},
        {"ip", "link", "set", port, "master", "bridge0", "up"}};
    std::vector<std::vector<std::string>> at_node = {
        {"ip", "address", "add", address(n) + "/24", "dev", "eth0"},
        {"ip", "link", "set", "eth0", "up"},
        {"ip", "link", "set", "lo", "up"}};
    if (bits_per_second != 0)  // bursts of two of the largest packets
      at_node.push_back({"tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate",
                         std::to_string(bits_per_second), "burst", "128kb", "latency", "50ms"});
    for (const auto& words : at_hub)
      if (Status s = run_in(hub, words); !s) return s.error();
    for (const auto& words : at_node)
      if (Status s = run_in(node, words); !s) return s.error();
  }
  return network;
}

}  // namespace gob::bench
