#include "gobbench/files/servers.h"

#include <unistd.h>

#include "gobbench/publish.h"

namespace gob::bench {
namespace {

constexpr const char* kSftpServer = "/usr/lib/openssh/sftp-server";

}  // namespace

Result<NfsServer> NfsServer::start(const std::string& folder, const std::string& scratch,
                                   const std::string& host, int netns_fd) {
  const Result<std::uint16_t> port = free_port(host, netns_fd);
  if (!port) return port.error();
  const Peer peer{"nfs-ganesha", "nfs-ganesha-vfs", scratch + "/ganesha.log"};
  const std::string settings =
      "NFS_CORE_PARAM { Protocols = 4; NFS_Port = " + std::to_string(*port) +
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
  spawn.argv = {"ganesha.nfsd", "-F",     "-f", scratch + "/ganesha.conf",
                "-L",           peer.log, "-p", scratch + "/ganesha.pid",
                "-N",           "EVENT"};
  spawn.netns_fd = netns_fd;
  Result<Process> process = spawn_peer(peer, spawn);
  if (!process) return process.error();
  if (Status s = wait_for_listener(peer, *process, host, *port, netns_fd); !s) return s.error();
  return NfsServer(std::move(*process), *port);
}

Result<ServedMount> mount_sshfs(const std::string& folder, const std::string& mount_point,
                                const TcpPlaces& places) {
  const Peer sftp_server{"sftp-server", "openssh-sftp-server", ""};
  if (::access(kSftpServer, X_OK) != 0) return missing(sftp_server);
  Result<TcpConnection> ends = connect_tcp(places);
  if (!ends) return ends.error();

  SpawnOptions serve;
  serve.argv = {kSftpServer, "-R"};
  serve.stdin_fd = serve.stdout_fd = ends->server.get();
  serve.netns_fd = places.server_netns_fd;
  Result<Process> server = spawn_peer(sftp_server, serve);
  if (!server) return server.error();

  SpawnOptions show;
  show.argv = {"sshfs", "-f", "-o", "passive,ro", ":" + folder, mount_point};
  show.stdin_fd = show.stdout_fd = ends->client.get();
  show.netns_fd = places.client_netns_fd;
  Result<MountedPeer> client = MountedPeer::start({"sshfs", "sshfs", ""}, show, mount_point);
  if (!client) return client.error();
  return ServedMount(std::move(*server), std::move(*client));
}

}  // namespace gob::bench
