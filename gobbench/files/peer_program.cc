#include "gobbench/files/peer_program.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <fstream>
#include <optional>
#include <thread>

#include "gobbench/tcp_pair.h"

namespace gob::bench {
namespace {

constexpr std::chrono::seconds kReadyTimeout{20};
constexpr int kProbeIntervalMs = 20;

// What `f` returns in a namespace; what it returns in none, if that cannot be entered.
template <class F>
auto in_namespace(int netns_fd, F&& f) {
  decltype(f()) result{};
  std::thread([&] {
    if (netns_fd < 0 || ::setns(netns_fd, CLONE_NEWNET) == 0) result = f();
  }).join();
  return result;
}

bool answers(const std::string& host, std::uint16_t port, int netns_fd) {
  return in_namespace(netns_fd, [&] {
    const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_in address = tcp_address(host, port);
    return fd &&
           ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  });
}

// ", and the last lines of the log", for errors.
std::string end_of_log(const Peer& peer) {
  if (peer.log.empty()) return "";
  std::ifstream file(peer.log);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  return "; its log ends:\n" +
         (text.size() <= 1000 ? text : "..." + text.substr(text.size() - 1000));
}

// Which mount a path is on; never asks who serves it, who may not answer.
std::optional<std::uint64_t> mount_of(const std::string& path) {
  struct statx facts = {};
  if (::statx(AT_FDCWD, path.c_str(), AT_STATX_DONT_SYNC, STATX_MNT_ID, &facts) != 0)
    return std::nullopt;
  return facts.stx_mnt_id;
}

}  // namespace

Error missing(const Peer& peer) {
  return make_error(ErrorCode::kUnsupported,
                    peer.name + " is not installed (Debian package " + peer.package + ")");
}

Result<Process> spawn_peer(const Peer& peer, const SpawnOptions& options) {
  Result<Process> process = Process::spawn(options);
  if (!process && process.error().code == ErrorCode::kNotFound) return missing(peer);
  return process;
}

Result<std::uint16_t> free_port(const std::string& host, int netns_fd) {
  const auto port = in_namespace(netns_fd, [&]() -> std::uint16_t {
    const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = tcp_address(host, 0);
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    socklen_t length = sizeof(address);
    if (!fd || ::bind(fd.get(), generic, length) != 0 ||
        ::getsockname(fd.get(), generic, &length) != 0)
      return 0;
    return ntohs(address.sin_port);
  });
  if (port == 0) return system_error("cannot find a free TCP port on " + host);
  return port;
}

Status wait_for_listener(const Peer& peer, const Process& process, const std::string& host,
                         std::uint16_t port, int netns_fd) {
  const auto deadline = std::chrono::steady_clock::now() + kReadyTimeout;
  while (!answers(host, port, netns_fd)) {
    pollfd ended = {process.pidfd(), POLLIN, 0};
    const bool gone = ::poll(&ended, 1, kProbeIntervalMs) > 0;
    if (gone || std::chrono::steady_clock::now() > deadline)
      return make_error(ErrorCode::kUnavailable,
                        peer.name + (gone ? " ended" : " does not answer") + end_of_log(peer));
  }
  return {};
}

Result<MountedPeer> MountedPeer::start(const Peer& peer, const SpawnOptions& options,
                                       const std::string& mount_point) {
  const UniqueFd mounts(::open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC));
  if (!mounts) return system_error("cannot watch the mounts of this machine");
  const auto before = mount_of(mount_point);
  if (!before) return system_error("cannot look at " + mount_point);
  Result<Process> process = spawn_peer(peer, options);
  if (!process) return process.error();
  MountPoint mount(mount_point);
  const auto deadline = std::chrono::steady_clock::now() + kReadyTimeout;
  for (auto now = before; !now || *now == *before; now = mount_of(mount_point)) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    std::array<pollfd, 2> fds{{{process->pidfd(), POLLIN, 0}, {mounts.get(), POLLPRI, 0}}};
    if (left.count() <= 0 || ::poll(fds.data(), fds.size(), static_cast<int>(left.count())) < 0)
      return make_error(ErrorCode::kTimedOut,
                        peer.name + " did not mount " + mount_point + end_of_log(peer));
    if (fds[0].revents != 0)
      return make_error(ErrorCode::kUnavailable,
                        peer.name + " could not mount " + mount_point + end_of_log(peer));
  }
  return MountedPeer(std::move(*process), std::move(mount));
}

}  // namespace gob::bench
