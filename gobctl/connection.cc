#include "gobctl/connection.h"

#include <unistd.h>

#include <cmath>
#include <cstdlib>

#include "gobctl/cluster_dir.h"

namespace gob::ctl {
namespace {

constexpr const char* kSystemSocket = "/run/gob/gobd.sock";

}  // namespace

Result<std::string> find_socket(const Arguments& arguments) {
  if (!arguments.socket.empty()) return arguments.socket;
  const ClusterDir dir(arguments.dir);
  if (!arguments.node.empty()) {
    if (dir.has_node(arguments.node)) return dir.node(arguments.node).socket();
    std::string known;
    for (const std::string& name : dir.nodes()) known += (known.empty() ? "" : ", ") + name;
    return make_error(
        ErrorCode::kNotFound,
        "no node '" + printable(arguments.node) + "' in the development cluster of " + dir.path() +
            (known.empty() ? ", which does not exist. Start one with \"gobctl cluster "
                             "up\", or say where it is (--dir, $GOB_DIR)"
                           : "; its nodes are " + known));
  }
  if (const char* socket = std::getenv("GOB_SOCKET"); socket != nullptr && *socket != '\0')
    return std::string(socket);
  if (const auto nodes = dir.nodes(); !nodes.empty()) return dir.node(nodes.front()).socket();
  return std::string(kSystemSocket);
}

Result<std::unique_ptr<ControlClient>> connect(const Arguments& arguments,
                                               ControlClient::Milliseconds timeout) {
  const auto socket = find_socket(arguments);
  if (!socket) return socket.error();
  return ControlClient::connect(*socket, "gobctl", timeout);
}

Result<control::Reply> ask(ControlClient& client, control::Request request,
                           ControlClient::Milliseconds timeout) {
  auto answer = client.call(std::move(request), {}, timeout);
  if (!answer) return answer.error();
  return std::move(answer->reply);
}

ControlClient::Milliseconds milliseconds(double seconds) {
  return ControlClient::Milliseconds(static_cast<std::int64_t>(std::ceil(seconds * 1000)));
}

}  // namespace gob::ctl
