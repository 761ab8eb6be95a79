// Checks that API functions share before they make a request. Any thread.
#pragma once

#include <string>

struct gob_connection;

namespace gob::client {

// -EINVAL, with `why` as the thread's last error.
int refused(const std::string& why);

// 0, or the error to return: NULL, or the connection of a parent process.
int usable(const gob_connection* connection, const char* function);
// The same, and a name is there. What names may look like is gobd's to say.
int usable(const gob_connection* connection, const char* name, const char* function);

}  // namespace gob::client
