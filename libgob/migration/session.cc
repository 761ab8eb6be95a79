#include "libgob/migration/session.h"

#include <cstdlib>
#include <random>

#include "libgob/container/container_record.h"
#include "libgob/gob.h"
#include "libgob/runtime/control_client.h"

namespace gob::migration {

std::string new_session(const std::string& node, int pid) {
  std::random_device random;
  const auto number = (std::uint64_t{random()} << 32) | random();
  return "migrate." + node + "." + std::to_string(pid) + "." + std::to_string(number);
}

Status remove_session(const std::string& socket, const std::string& session) {
  const auto client = ControlClient::connect(socket, "gobmigrate", std::chrono::seconds(5));
  if (!client) return client.error();
  control::Request list;
  list.mutable_list_containers();
  const auto answer = (*client)->call(list);
  if (!answer) return answer.error();
  Status result;
  for (const control::Container& container : answer->reply.list_containers().containers()) {
    if (container.name() != session && !container.name().starts_with(session + ".")) continue;
    control::Request remove;
    if (static_cast<ContainerKind>(container.kind()) == ContainerKind::kTree)
      remove.mutable_detach()->set_name(container.name());
    else
      remove.mutable_remove_container()->set_name(container.name());
    // The other end may remove them as well: gone is gone.
    if (auto removed = (*client)->call(remove);
        !removed && removed.error().code != ErrorCode::kNotFound)
      result = removed.error();
  }
  return result;
}

std::string files_of(const std::string& session) {
  constexpr std::size_t kPrefix = std::string_view("migrate").size();
  return "migrate-files" + session.substr(kPrefix);
}

Result<Cover> attach_folder(const std::string& socket, const std::string& session, int number,
                            const std::string& path) {
  const auto client = ControlClient::connect(socket, "gobmigrate", std::chrono::seconds(5));
  if (!client) return client.error();
  Cover cover;
  cover.set_path(path);
  cover.set_home((*client)->hello().node_name());
  cover.set_name(files_of(session) + "." + std::to_string(number));
  control::Request request;
  request.mutable_attach()->set_name(cover.name());
  request.mutable_attach()->set_path(path);
  request.mutable_attach()->set_folder(true);
  if (const auto attached = (*client)->call(request); !attached)
    return make_error(attached.error().code,
                      "attaching " + path + ": " + attached.error().message());
  return cover;
}

Result<std::string> mount_path(const std::string& socket) {
  const auto client = ControlClient::connect(socket, "gobmigrate", std::chrono::seconds(5));
  if (!client) return client.error();
  return (*client)->hello().mount();
}

std::string socket_path(const std::string& given) {
  if (!given.empty()) return given;
  const char* named = std::getenv("GOB_SOCKET");
  return named != nullptr && *named != '\0' ? named : GOB_DEFAULT_SOCKET;
}

std::string stay_lock(const std::string& session, bool source) {
  return "gob-stay." + session + (source ? ".source" : ".target");
}

std::string alive_name(const std::string& node) { return "migrate-server-alive:" + node; }
std::string inbox_name(const std::string& node) { return "migrate-server:" + node; }

}  // namespace gob::migration
