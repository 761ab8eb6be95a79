// Sharers: connections to gobd of processes that move, with containers mapped. They let go of all that
// before CRIU looks, and take it up at the node where the process goes on; libgob in the process does
// it when asked (libgob/client/move_door.h), while its other threads stand still. One thread.
#pragma once

#include <sys/types.h>

#include <set>
#include <string>
#include <vector>

#include "libgob/base/result.h"

namespace gob::migration {

// Numbers of the descriptors of `pid` that its connections close before a move. None if it has no
// connection, or its libgob knows nothing of moves.
std::set<int> sharers_descriptors(pid_t pid);

// All of these are for `root` and its descendants, and fine if none has a connection.
// While they run: their threads keep out of libgob from now on. An error says who does not.
Status prepare_sharers(pid_t root);
// They stand still. `socket`: this node's gobd's. After an error join_sharers() is due.
Status leave_sharers(pid_t root, const std::string& socket);
// They stand still, at the node of the gobd at `socket`: as before the move.
Status join_sharers(pid_t root, const std::string& socket);
// The same for those that go on where they were. What cannot be mapped again raises SIGBUS.
void restore_sharers(pid_t root, const std::string& socket);

}  // namespace gob::migration
