// nodes, leave.
#include "gobctl/commands.h"
#include "gobctl/connection.h"
#include "gobctl/json.h"

namespace gob::ctl {

Status run_nodes(const Arguments& arguments, Io& io) {
  const auto client = connect(arguments);
  if (!client) return client.error();
  control::Request request;
  request.mutable_nodes();
  const auto reply = ask(**client, std::move(request));
  if (!reply) return reply.error();
  const control::NodesReply& nodes = reply->nodes();
  if (arguments.quiet) {
    for (const auto& node : nodes.nodes()) io.out << printable(node.name()) << '\n';
    return {};
  }
  if (arguments.json) {
    Json list = Json::array();
    for (const auto& node : nodes.nodes())
      list.push_back({{"id", node.id()},
                      {"name", node.name()},
                      {"host", node.host()},
                      {"port", node.port()},
                      {"member", node.member()},
                      {"self", node.self()},
                      {"state", node.state()}});
    print_json(io.out, {{"cluster", (*client)->hello().cluster_name()},
                        {"epoch", nodes.epoch()},
                        {"nodes", list}});
    return {};
  }
  io.out << "Cluster " << io.paint.bold(printable((*client)->hello().cluster_name())) << " as node "
         << printable((*client)->hello().node_name()) << " sees it, epoch " << nodes.epoch()
         << "\n\n";
  Table table({{"ID", Table::Align::kRight}, {"NAME"}, {"ADDRESS"}, {"STATE"}, {""}});
  for (const auto& node : nodes.nodes())
    table.add({std::to_string(node.id()), printable(node.name()),
               printable(node.host()) + ":" + std::to_string(node.port()), printable(node.state()),
               node.self() ? "this node" : ""});
  table.print(io.out, io.paint);
  return {};
}

Status run_leave(const Arguments& arguments, Io& io) {
  const auto client = connect(arguments);
  if (!client) return client.error();
  const auto timeout = milliseconds(arguments.timeout_seconds);
  control::Request request;
  request.mutable_leave()->set_timeout_ms(timeout.count());
  // gobd keeps to the time itself; the margin is for its answer.
  constexpr ControlClient::Milliseconds kMargin{5000};
  const auto reply = ask(**client, std::move(request), timeout + kMargin);
  if (!reply) return reply.error();
  io.out << "Node " << printable((*client)->hello().node_name())
         << " has handed its pages over and leaves\n";
  return {};
}

}  // namespace gob::ctl
