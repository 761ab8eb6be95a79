#include "gobbench/files/servers.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <fstream>
#include <thread>

#include "gobbench/publish.h"

namespace gob::bench {
namespace {

constexpr std::chrono::seconds kReadyTimeout{20};
constexpr int kProbeIntervalMs = 20;
constexpr const char* kSftpServer = "/usr/lib/openssh/sftp-server";

Error missing(const std::string& what, const std::string& package) {
  return make_error(ErrorCode::kUnsupported,
                    what + " is not installed (Debian package " + package + ")");
}

// A port of `host` that nobody listens on, and a listener's answer, seen from a namespace.
template <class F>
auto in_namespace(int netns_fd, F&& f) {
  decltype(f()) result{};
  std::thread([&] {
    if (netns_fd < 0 || ::setns(netns_fd, CLONE_NEWNET) == 0) result = f();
  }).join();
  return result;
}

std::uint16_t free_port(const std::string& host, int netns_fd) {
  return in_namespace(netns_fd, [&]() -> std::uint16_t {
    const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = tcp_address(host, 0);
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    socklen_t length = sizeof(address);
    if (!fd || ::bind(fd.get(), generic, length) != 0 ||
        ::getsockname(fd.get(), generic, &length) != 0)
      return 0;
    return ntohs(address.sin_port);
  });
}

bool answers(const std::string& host, std::uint16_t port, int netns_fd) {
  return in_namespace(netns_fd, [&] {
    const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_in address = tcp_address(host, port);
    return fd &&
           ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  });
}

// The last lines of a log, for errors.
std::string end_of_log(const std::string& path) {
  std::ifstream file(path);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  return text.size() <= 1000 ? text : "..." + text.substr(text.size() - 1000);
}

dev_t device_of(const std::string& path) {
  struct stat status = {};
  return ::stat(path.c_str(), &status) == 0 ? status.st_dev : 0;
}

}  // namespace

Result<NfsServer> NfsServer::start(const std::string& folder, const std::string& scratch,
                                   const std::string& host, int netns_fd) {
  const std::uint16_t port = free_port(host, netns_fd);
  if (port == 0) return system_error("cannot find a free TCP port on " + host);
  const std::string log = scratch + "/ganesha.log";
  const std::string settings =
      "NFS_CORE_PARAM { Protocols = 4; NFS_Port = " + std::to_string(port) +
      "; Bind_addr = " + host +
      "; Enable_NLM = false; Enable_RQUOTA = false; allow_set_io_flusher_fail = true; }\n"
      "NFSV4 { Graceless = true; RecoveryBackend = fs; RecoveryRoot = \"" +
      scratch +
      "\"; }\n"
      "EXPORT { Export_Id = 1; Path = \"" +
      folder +
      "\"; Pseudo = /files; Access_Type = RO; Squash = No_Root_Squash; SecType = sys; "
      "Protocols = 4; Transports = TCP; FSAL { Name = VFS; } }\n";
  if (Status s = write_file(scratch, "ganesha.conf", settings); !s) return s.error();
  SpawnOptions spawn;
  spawn.argv = {"ganesha.nfsd",           "-F", "-f",   scratch + "/ganesha.conf", "-L", log, "-p",
                scratch + "/ganesha.pid", "-N", "EVENT"};
  spawn.netns_fd = netns_fd;
  Result<Process> process = Process::spawn(spawn);
  if (!process && process.error().code == ErrorCode::kNotFound)
    return missing("nfs-ganesha", "nfs-ganesha-vfs");
  if (!process) return process.error();
  // It has no way to say that it is ready.
  const auto deadline = std::chrono::steady_clock::now() + kReadyTimeout;
  while (!answers(host, port, netns_fd)) {
    pollfd ended = {process->pidfd(), POLLIN, 0};
    const bool gone = ::poll(&ended, 1, kProbeIntervalMs) > 0;
    if (gone || std::chrono::steady_clock::now() > deadline)
      return make_error(ErrorCode::kUnavailable,
                        "nfs-ganesha " + std::string(gone ? "ended" : "does not answer") +
                            "; its log ends:\n" + end_of_log(log));
  }
  return NfsServer(std::move(*process), port);
}

Result<SshMount> SshMount::start(const std::string& folder, const std::string& mount_point,
                                 const TcpPlaces& places) {
  if (::access(kSftpServer, X_OK) != 0) return missing("sftp-server", "openssh-sftp-server");
  Result<TcpConnection> ends = connect_tcp(places);
  if (!ends) return ends.error();

  SpawnOptions serve;
  serve.argv = {kSftpServer, "-R"};
  serve.stdin_fd = serve.stdout_fd = ends->server.get();
  serve.netns_fd = places.server_netns_fd;
  Result<Process> server = Process::spawn(serve);
  if (!server) return server.error();

  const UniqueFd mounts(::open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC));
  if (!mounts) return system_error("cannot watch the mounts of this machine");
  const dev_t before = device_of(mount_point);
  SpawnOptions show;
  show.argv = {"sshfs", "-f", "-o", "passive,ro", ":" + folder, mount_point};
  show.stdin_fd = show.stdout_fd = ends->client.get();
  show.netns_fd = places.client_netns_fd;
  Result<Process> client = Process::spawn(show);
  if (!client && client.error().code == ErrorCode::kNotFound) return missing("sshfs", "sshfs");
  if (!client) return client.error();
  MountPoint mount(mount_point);
  const auto deadline = std::chrono::steady_clock::now() + kReadyTimeout;
  while (device_of(mount_point) == before) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    std::array<pollfd, 2> fds{{{client->pidfd(), POLLIN, 0}, {mounts.get(), POLLPRI, 0}}};
    if (left.count() <= 0 || ::poll(fds.data(), fds.size(), static_cast<int>(left.count())) < 0)
      return make_error(ErrorCode::kTimedOut, "sshfs did not mount " + mount_point);
    if (fds[0].revents != 0)
      return make_error(ErrorCode::kUnavailable, "sshfs could not mount " + mount_point);
  }
  return SshMount(std::move(*server), std::move(*client), std::move(mount));
}

}  // namespace gob::bench
