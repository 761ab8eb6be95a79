// Containers of memory in common (common_container.h) whose keepers and guards died together, or
// with their node, before they could give them up: somebody who lives has to look for them.
#pragma once

#include <string>

#include "libgob/base/result.h"

namespace gob::migration {

// Removes those that no keeper of any node has. `socket`: gobd's. Waits for nobody who holds such a
// container's list for longer than some seconds; it is for a process of its own, which may wait for
// a node that is hung, and be killed at any moment.
Status sweep_common(const std::string& socket);

}  // namespace gob::migration
