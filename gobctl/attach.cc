// attach, detach, sync.
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <limits>

#include "gobctl/commands.h"
#include "gobctl/connection.h"
#include "gobctl/stat_json.h"

namespace gob::ctl {

namespace {

// As ipcs(1) shows keys, or in decimal.
Result<std::int32_t> parse_key(const std::string& text) {
  const bool hexadecimal = text.starts_with("0x") || text.starts_with("0X");
  const std::string digits = hexadecimal ? text.substr(2) : text;
  std::int64_t key = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), key, hexadecimal ? 16 : 10);
  if (error != std::errc{} || end != digits.data() + digits.size() || key == 0 ||
      key < std::numeric_limits<std::int32_t>::min() ||
      key > std::numeric_limits<std::uint32_t>::max())
    return make_error(ErrorCode::kInvalidArgument,
                      "cannot take '" + printable(text) +
                          "' as the key of a System V segment; write it as ipcs -m does, such as "
                          "0x1234, or in decimal (private segments have none)");
  return static_cast<std::int32_t>(key);
}

Result<control::Request> request_of(const Arguments& arguments) {
  const int given = !arguments.tree.empty() + !arguments.file.empty() + !arguments.segment.empty();
  if (given != 1)
    return make_error(ErrorCode::kInvalidArgument,
                      "say what to attach: --tree DIR for a folder, --file PATH for a file, or "
                      "--segment KEY for a System V segment");
  if (arguments.link && arguments.file.empty())
    return make_error(ErrorCode::kInvalidArgument,
                      "--link is for a file: say which one with --file PATH");
  control::Request request;
  control::Attach& attach = *request.mutable_attach();
  attach.set_name(arguments.name);
  if (!arguments.segment.empty()) {
    const auto key = parse_key(arguments.segment);
    if (!key) return key.error();
    attach.set_segment_key(*key);
    return request;
  }
  const bool tree = !arguments.tree.empty();
  const std::string& path = tree ? arguments.tree : arguments.file;
  if (path.front() != '/')
    return make_error(ErrorCode::kInvalidArgument,
                      "'" + printable(path) + "' is no full path; the node that is asked may see " +
                          "another folder as the present one");
  attach.set_path(std::filesystem::path(path).lexically_normal().string());
  attach.set_folder(tree);
  attach.set_link(arguments.link);
  return request;
}

std::string lost_in_words(const google::protobuf::RepeatedPtrField<control::PageRun>& lost) {
  std::uint64_t pages = 0;
  std::string words;
  for (const control::PageRun& run : lost) {
    pages += run.count();
    words += (words.empty() ? "" : ", ") + std::to_string(run.first());
    if (run.count() > 1) words += "-" + std::to_string(run.first() + run.count() - 1);
  }
  return "Lost with a node that died, and zeros from now on: " + std::to_string(pages) +
         (pages == 1 ? " page" : " pages") + " of 4096 bytes: " + words + '\n';
}

}  // namespace

Status run_attach(const Arguments& arguments, Io& io) {
  auto request = request_of(arguments);
  if (!request) return request.error();
  const auto client = connect(arguments);
  if (!client) return client.error();
  const std::string path = request->attach().path();
  const auto reply = ask(**client, std::move(*request));
  if (!reply) return reply.error();
  const control::Container& made = reply->container().container();
  const bool linked = path.empty() || arguments.link;
  if (arguments.json) {
    Json json = to_json(made);
    if (linked) json["joined"] = reply->container().joined();
    print_json(io.out, json);
    return {};
  }
  io.out << "Attached "
         << (path.empty() ? "segment " + printable(arguments.segment) : printable(path))
         << " of node " << printable((*client)->hello().node_name()) << " as "
         << io.paint.bold(printable(made.name()));
  if (linked)
    io.out << (reply->container().joined() ? ", with the bytes of the container"
               : path.empty()              ? ", a new container with the bytes of the segment"
                                           : ", a new container with the bytes of the file");
  io.out << '\n';
  return {};
}

Status run_detach(const Arguments& arguments, Io& io) {
  const auto client = connect(arguments);
  if (!client) return client.error();
  control::Request request;
  request.mutable_detach()->set_name(arguments.name);
  request.mutable_detach()->set_lossy(arguments.lossy);
  const auto reply = ask(**client, std::move(request));
  if (!reply) return reply.error();
  const auto& lost = reply->detach().lost();
  if (arguments.json) {
    Json json{{"name", printable(arguments.name)}, {"lost", Json::array()}};
    for (const control::PageRun& run : lost)
      json["lost"].push_back({{"first", run.first()}, {"pages", run.count()}});
    print_json(io.out, json);
    return {};
  }
  io.out << "Detached " << printable(arguments.name) << '\n';
  if (!lost.empty()) io.out << lost_in_words(lost);
  return {};
}

Status run_sync(const Arguments& arguments, Io& io) {
  const auto client = connect(arguments);
  if (!client) return client.error();
  control::Request request;
  request.mutable_sync()->set_name(arguments.name);
  const auto reply = ask(**client, std::move(request), milliseconds(arguments.timeout_seconds));
  if (!reply) return reply.error();
  io.out << "Synced " << printable(arguments.name) << ": the disk of node "
         << printable((*client)->hello().node_name()) << " has what all nodes had written to it\n";
  return {};
}

}  // namespace gob::ctl
