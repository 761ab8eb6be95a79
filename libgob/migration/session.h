// What belongs to one migration in the cluster, and how it goes away. Functions; any thread.
#pragma once

#include <string>
#include <vector>

#include "libgob/base/result.h"

namespace gob::migration {

// Names begin with "migrate."; unlike every other session's.
std::string new_session(const std::string& node, int pid);
// Removes every container of the session that is still there. Through a connection of its own, so
// that it works after the death of whoever used them.
Status remove_session(const std::string& socket, const std::string& session);
// $GOB_SOCKET, else the gobd of this machine, unless `given`.
std::string socket_path(const std::string& given);

// The lock that a server of this node holds as long as it lives, and the container where it takes
// names of sessions (a length byte, then the name).
std::string alive_name(const std::string& node);
std::string inbox_name(const std::string& node);

}  // namespace gob::migration
