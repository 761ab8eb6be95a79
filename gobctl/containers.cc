// create, ls, rm, flush.
#include <algorithm>
#include <charconv>

#include "gobctl/commands.h"
#include "gobctl/connection.h"
#include "gobctl/stat_json.h"
#include "libgob/base/size.h"
#include "libgob/container/container_record.h"

namespace gob::ctl {
namespace {

Result<std::uint32_t> parse_mode(const std::string& text) {
  std::uint32_t mode = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), mode, 8);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size() || mode > 0777)
    return make_error(ErrorCode::kInvalidArgument,
                      "cannot take '" + printable(text) +
                          "' as a mode; write permission bits in octal, such as 0600 or 0664");
  return mode;
}

std::string node_name(const control::HelloReply& hello, std::uint32_t id) {
  if (id < static_cast<std::uint32_t>(hello.node_names_size()))
    return printable(hello.node_names(static_cast<int>(id)));
  return "node " + std::to_string(id);
}

}  // namespace

Status run_create(const Arguments& arguments, Io& io) {
  const auto size = parse_size(arguments.size);
  if (!size) return size.error();
  if (*size == 0)
    return make_error(ErrorCode::kInvalidArgument, "a container needs a size of at least one byte");
  const auto mode = parse_mode(arguments.mode);
  if (!mode) return mode.error();
  const auto client = connect(arguments);
  if (!client) return client.error();
  control::Request request;
  request.mutable_create_container()->set_name(arguments.name);
  request.mutable_create_container()->set_size_bytes(*size);
  request.mutable_create_container()->set_mode(*mode);
  const auto reply = ask(**client, std::move(request));
  if (!reply) return reply.error();
  const control::Container& made = reply->container().container();
  if (arguments.json)
    print_json(io.out, to_json(made));
  else
    io.out << "Created " << io.paint.bold(printable(made.name())) << ", "
           << format_size(made.size_bytes()) << ", " << format_mode(made.mode()) << ' '
           << format_owner(made.uid(), made.gid()) << '\n';
  return {};
}

Status run_list(const Arguments& arguments, Io& io) {
  const auto client = connect(arguments);
  if (!client) return client.error();
  control::Request request;
  request.mutable_list_containers();
  const auto reply = ask(**client, std::move(request));
  if (!reply) return reply.error();
  std::vector<control::Container> containers(reply->list_containers().containers().begin(),
                                             reply->list_containers().containers().end());
  std::sort(containers.begin(), containers.end(),
            [](const auto& a, const auto& b) { return a.name() < b.name(); });
  // Those of single files come and go with their use, by the thousand; what is known of processes
  // that moved is for "gobctl ps".
  if (!arguments.all)
    std::erase_if(containers, [](const auto& container) {
      return container.kind() == static_cast<std::uint32_t>(ContainerKind::kFile) ||
             container.name().starts_with("migrant.");
    });
  if (arguments.quiet) {
    for (const auto& container : containers) io.out << printable(container.name()) << '\n';
    return {};
  }
  if (arguments.json) {
    Json list = Json::array();
    for (const auto& container : containers) list.push_back(to_json(container));
    print_json(io.out, list);
    return {};
  }
  if (containers.empty()) {
    io.out << "No containers. Make one with \"gobctl create NAME --size 64M\".\n";
    return {};
  }
  Table table({{"NAME"},
               {"SIZE", Table::Align::kRight},
               {"MODE"},
               {"OWNER"},
               {"KIND"},
               {"HOME"},
               {"ID", Table::Align::kRight}});
  const control::HelloReply& hello = (*client)->hello();
  for (const auto& container : containers) {
    // A folder has no size of its own; the memory of processes is mostly holes.
    const auto kind = static_cast<ContainerKind>(container.kind());
    const bool sized = kind != ContainerKind::kTree && kind != ContainerKind::kProcess;
    table.add({printable(container.name()), !sized ? "-" : format_size(container.size_bytes()),
               format_mode(container.mode()), format_owner(container.uid(), container.gid()),
               kind_of(container),
               container.kind() == 0 ? "-" : node_name(hello, container.home_node()),
               std::to_string(container.id())});
  }
  table.print(io.out, io.paint);
  return {};
}

Status run_remove(const Arguments& arguments, Io& io) {
  const auto client = connect(arguments);
  if (!client) return client.error();
  Status result;
  for (const std::string& name : arguments.names) {
    control::Request request;
    request.mutable_remove_container()->set_name(name);
    const auto reply = ask(**client, std::move(request));
    if (reply) continue;
    // The others are still removed; the first error decides the exit status.
    if (result) {
      result = reply.error();
    } else {
      io.err << "gobctl: " << reply.error().message() << '\n';
    }
  }
  return result;
}

Status run_flush(const Arguments& arguments, Io& io) {
  const auto client = connect(arguments);
  if (!client) return client.error();
  control::Request request;
  request.mutable_flush()->set_name(arguments.name);
  const auto reply = ask(**client, std::move(request), milliseconds(arguments.timeout_seconds));
  if (!reply) return reply.error();
  const auto flushed = reply->flush().flushed_pages();
  const auto kept = reply->flush().kept_pages();
  if (arguments.json)
    print_json(io.out, {{"flushed_pages", flushed}, {"kept_pages", kept}});
  else
    io.out << "Flushed " << flushed << " pages from node "
           << printable((*client)->hello().node_name()) << "; " << kept << " stay here\n";
  return {};
}

}  // namespace gob::ctl
