// What belongs to one migration in the cluster, and how it goes away. Functions; any thread.
#pragma once

#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/migration/migration.pb.h"

namespace gob::migration {

// Names begin with "migrate."; unlike every other session's.
std::string new_session(const std::string& node, int pid);
// Removes every container of the session that is still there, or the one of that name, and detaches
// what was attached so. Through a connection of its own, so that it works after the death of whoever
// used them.
Status remove_session(const std::string& socket, const std::string& session);
// Folders that the process goes on seeing, attached for it: names "SET.NUMBER". They outlive the
// session's containers.
std::string files_of(const std::string& session);
// Attaches a folder of this node for the session; its cover. `number`: unlike the session's others.
Result<Cover> attach_folder(const std::string& socket, const std::string& session, int number,
                            const std::string& path);
// Where this node's gobd shows attached files; empty: nowhere.
Result<std::string> mount_path(const std::string& socket);
// $GOB_SOCKET, else the gobd of this machine, unless `given`.
std::string socket_path(const std::string& given);

// As long as this end of the session has this lock, its gobd does not begin to leave, up to
// leave_timeout_ms; it cannot be taken any more when gobd has been told to.
std::string stay_lock(const std::string& session, bool source);

// The lock that a server of this node holds as long as it lives, and the container where it takes
// names of sessions (a length byte, then the name).
std::string alive_name(const std::string& node);
std::string inbox_name(const std::string& node);

}  // namespace gob::migration
