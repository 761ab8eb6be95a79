// attach, detach.
#include <filesystem>

#include "gobctl/commands.h"
#include "gobctl/connection.h"
#include "gobctl/stat_json.h"

namespace gob::ctl {

Status run_attach(const Arguments& arguments, Io& io) {
  if (arguments.tree.empty() == arguments.file.empty())
    return make_error(ErrorCode::kInvalidArgument,
                      "say what to attach: --tree DIR for a folder, or --file PATH for a file");
  const bool tree = !arguments.tree.empty();
  const std::string& path = tree ? arguments.tree : arguments.file;
  if (path.front() != '/')
    return make_error(ErrorCode::kInvalidArgument,
                      "'" + printable(path) + "' is no full path; the node that is asked may see " +
                          "another folder as the present one");
  const auto client = connect(arguments);
  if (!client) return client.error();
  control::Request request;
  request.mutable_attach()->set_name(arguments.name);
  request.mutable_attach()->set_path(std::filesystem::path(path).lexically_normal().string());
  request.mutable_attach()->set_folder(tree);
  const auto reply = ask(**client, std::move(request));
  if (!reply) return reply.error();
  const control::Container& made = reply->container().container();
  if (arguments.json)
    print_json(io.out, to_json(made));
  else
    io.out << "Attached " << printable(path) << " of node "
           << printable((*client)->hello().node_name()) << " as "
           << io.paint.bold(printable(made.name())) << '\n';
  return {};
}

Status run_detach(const Arguments& arguments, Io& io) {
  const auto client = connect(arguments);
  if (!client) return client.error();
  control::Request request;
  request.mutable_detach()->set_name(arguments.name);
  const auto reply = ask(**client, std::move(request));
  if (!reply) return reply.error();
  io.out << "Detached " << printable(arguments.name) << '\n';
  return {};
}

}  // namespace gob::ctl
