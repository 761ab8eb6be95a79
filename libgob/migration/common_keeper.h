// The common keeper: a process, "gobmigrate keep", that maps containers into programs which had
// memory in common and know nothing of gob, holds the connection to gobd for them, and ends with
// the last of them. Another one beside it (common_guard.h) makes sure that none of them ever runs
// on zeros.
#pragma once

#include <string>

#include "libgob/base/result.h"

namespace gob::migration {

inline constexpr char kKeeperDone = '+';
inline constexpr char kKeeperRefused = '-';

// Obeys the commands of `link` (common_link.h), and looks after whatever processes it got so, until
// these have ended and the link is closed. An error: gobd has ended, and the memory with it.
Status keep_common(const std::string& socket, int link);

}  // namespace gob::migration
