// Being a migrant's foreground: what is typed at the caller's terminal goes to it, wherever it is,
// until it ends. The relay where it was started never reads what is typed, so this is how keys get
// to it.
#pragma once

#include <string>

#include "libgob/base/result.h"
#include "libgob/migration/migration.pb.h"

namespace gob::migration {

// The caller's standard input is a terminal. Keys that are signals and line editing are for the
// terminal that the migrant has, but for the suspend key (Ctrl-Z): with that the caller stops, and
// the migrant goes on. Returns its end, when all that it wrote is out; the terminal's settings are
// as before. Blocks SIGINT, SIGTERM and SIGHUP. kInvalidArgument: it has no terminal, or the caller
// has none; kAlreadyExists: somebody else does this; kSystem: by a signal; else as await_end_of().
// To be called before there are threads.
Result<Migrant> follow_in_foreground(const std::string& socket, const std::string& record);

}  // namespace gob::migration
