#include "gobbench/files/gluster.h"

#include <sys/stat.h>

#include <utility>
#include <vector>

#include "gobbench/publish.h"

namespace gob::bench {
namespace {

constexpr const char* kPackage = "glusterfs-client";  // brings the server's program, too
constexpr const char* kVolumeId = "13e4636e-7e0d-479c-8f60-b2c8d80e6cc1";  // any will do

struct Translator {
  std::string name;
  std::string type;
  std::vector<std::pair<std::string, std::string>> options;
};

// A volume file: each translator stands on the one before.
std::string graph(const std::vector<Translator>& translators) {
  std::string text;
  const Translator* below = nullptr;
  for (const Translator& translator : translators) {
    text += "volume " + translator.name + "\n  type " + translator.type + "\n";
    for (const auto& [option, value] : translator.options)
      text += "  option " + option + " " + value + "\n";
    if (below != nullptr) text += "  subvolumes " + below->name + "\n";
    text += "end-volume\n";
    below = &translator;
  }
  return text;
}

// What `gluster volume create` of version 10 makes for a server, all of it. `own`: the folder in
// the brick that it keeps its own files in.
std::string brick_graph(const std::string& brick, const std::string& own, const std::string& host,
                        const std::string& port) {
  return graph({{"posix", "storage/posix", {{"directory", brick}}},
                {"trash", "features/trash", {{"trash-dir", ".trashcan"}, {"brick-path", brick}}},
                {"changelog",
                 "features/changelog",
                 {{"changelog-brick", brick}, {"changelog-dir", own + "/changelogs"}}},
                {"bitrot-stub", "features/bitrot-stub", {{"export", brick}}},
                {"access-control", "features/access-control", {}},
                {"locks", "features/locks", {}},
                {"worm", "features/worm", {}},
                {"read-only", "features/read-only", {{"read-only", "off"}}},
                {"leases", "features/leases", {}},
                {"upcall", "features/upcall", {}},
                {"io-threads", "performance/io-threads", {}},
                {"selinux", "features/selinux", {}},
                {"marker",
                 "features/marker",
                 {{"volume-uuid", kVolumeId}, {"timestamp-file", own + "/marker.tstamp"}}},
                {"barrier", "features/barrier", {}},
                {"index", "features/index", {{"index-base", own + "/indices"}}},
                {"quota", "features/quota", {{"volume-uuid", "files"}}},
                {"brick", "debug/io-stats", {}},
                {"server",
                 "protocol/server",
                 {{"transport-type", "tcp"},
                  {"transport.address-family", "inet"},
                  {"transport.listen-backlog", "1024"},
                  {"transport.socket.bind-address", host},
                  {"transport.socket.listen-port", port},
                  {"auth.addr.brick.allow", "*"}}}});
}

// And for a client. Neither read-ahead nor io-cache are in it by default.
std::string client_graph(const std::string& host, const std::string& port) {
  return graph(
      {{"client",
        "protocol/client",
        {{"transport-type", "tcp"},
         {"transport.address-family", "inet"},
         {"remote-host", host},
         {"remote-port", port},
         {"remote-subvolume", "brick"},
         {"ping-timeout", "42"},
         {"send-gids", "true"}}},
       {"dht", "cluster/distribute", {{"lock-migration", "off"}, {"force-migration", "off"}}},
       {"utime", "features/utime", {{"noatime", "on"}}},
       {"write-behind", "performance/write-behind", {}},
       {"open-behind", "performance/open-behind", {}},
       {"quick-read", "performance/quick-read", {}},
       {"md-cache", "performance/md-cache", {}},
       {"io-threads", "performance/io-threads", {}},
       {"files", "debug/io-stats", {}}});
}

}  // namespace

Result<ServedMount> mount_glusterfs(const std::string& brick, const std::string& mount_point,
                                    const std::string& scratch, const TcpPlaces& places) {
  const Result<std::uint16_t> port = free_port(places.server_host, places.server_netns_fd);
  if (!port) return port.error();
  const std::string port_text = std::to_string(*port);
  const std::string own = brick + "/.glusterfs";
  for (const std::string& made : {own, own + "/indices"})
    if (::mkdir(made.c_str(), 0700) != 0) return system_error("cannot make " + made);
  if (Status s = write_file(scratch, "gluster-brick.vol",
                            brick_graph(brick, own, places.server_host, port_text));
      !s)
    return s.error();
  if (Status s =
          write_file(scratch, "gluster-client.vol", client_graph(places.server_host, port_text));
      !s)
    return s.error();

  const Peer serving{"glusterfsd", kPackage, scratch + "/gluster-brick.log"};
  SpawnOptions serve;
  serve.argv = {"glusterfsd", "-N", "-f", scratch + "/gluster-brick.vol", "-l", serving.log};
  serve.netns_fd = places.server_netns_fd;
  Result<Process> server = spawn_peer(serving, serve);
  if (!server) return server.error();
  if (Status s =
          wait_for_listener(serving, *server, places.server_host, *port, places.server_netns_fd);
      !s)
    return s.error();

  const Peer showing{"glusterfs", kPackage, scratch + "/gluster-client.log"};
  SpawnOptions show;
  show.argv = {"glusterfs", "-N",        "-f",          scratch + "/gluster-client.vol",
               "-l",        showing.log, "--read-only", "--process-name",
               "fuse",      mount_point};
  show.netns_fd = places.client_netns_fd;
  Result<MountedPeer> client = MountedPeer::start(showing, show, mount_point);
  if (!client) return client.error();
  return ServedMount(std::move(*server), std::move(*client));
}

}  // namespace gob::bench
