#include "libgob/client/request.h"

#include "libgob/client/connection.h"
#include "libgob/client/last_error.h"

namespace gob::client {

int refused(const std::string& why) {
  return failed(make_error(ErrorCode::kInvalidArgument, why, EINVAL));
}

int usable(const gob_connection* connection, const char* function) {
  if (connection == nullptr) return refused(std::string(function) + ": the connection is NULL");
  if (!connection->ours()) {
    return refused(std::string(function) +
                   ": the connection belongs to the process that forked this one; a child makes "
                   "its own with gob_connect()");
  }
  return 0;
}

int usable(const gob_connection* connection, const char* name, const char* function) {
  if (int error = usable(connection, function); error != 0) return error;
  if (name == nullptr) return refused(std::string(function) + ": the name is NULL");
  return 0;
}

}  // namespace gob::client
