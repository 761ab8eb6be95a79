#include "libgob/migration/common_sweep.h"

#include <spdlog/spdlog.h>

#include <gob.hpp>
#include <system_error>
#include <vector>

#include "libgob/migration/common_container.h"
#include "libgob/migration/common_memory.h"
#include "libgob/migration/talk.h"
#include "libgob/runtime/control_client.h"

namespace gob::migration {
namespace {

constexpr std::chrono::seconds kGobd{10};
// Who holds it looks at locks, or removes it: if that takes longer, there is another time.
constexpr std::chrono::seconds kList{5};

}  // namespace

Status sweep_common(const std::string& socket) {
  const auto client = ControlClient::connect(socket, "gobmigrate", kGobd);
  if (!client) return client.error();
  control::Request list;
  list.mutable_list_containers();
  const auto answer = (*client)->call(list, {}, kGobd);
  if (!answer) return answer.error();
  std::vector<std::string> names;
  for (const control::Container& each : answer->reply.list_containers().containers())
    if (each.name().starts_with(kCommonName)) names.push_back(each.name());
  if (names.empty()) return {};
  Status result;
  try {
    const gobelins::Connection gob(socket);
    for (const std::string& name : names) {
      const auto removed = CommonContainer::remove_unused(gob, name, kList);
      if (!removed)
        result = removed.error();
      else if (*removed)
        spdlog::info("{}: removed; whoever had this memory died before it could be given up", name);
    }
  } catch (const std::system_error& error) {
    return error_of(error, "connecting to gobd at " + socket);
  }
  return result;
}

}  // namespace gob::migration
