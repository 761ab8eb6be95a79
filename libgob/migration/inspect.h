// A look at a process and its descendants before anything is frozen: what moves, and what would
// stop it from moving. Functions over /proc; any thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/migration/migration.pb.h"

namespace gob::migration {

struct Plan {
  pid_t pid = 0;
  std::string command;
  std::vector<pid_t> processes;  // pid first
  std::uint64_t threads = 0;
  std::uint64_t private_bytes = 0;     // anonymous memory, resident
  std::vector<File> files;             // that have to be at the target by the same path
  std::vector<std::string> obstacles;  // each says what, and what to do; empty: it can move
};

// kNotFound: there is no such process.
Result<Plan> inspect(pid_t pid);
// The process and all its descendants that live now, parents first.
std::vector<pid_t> tree_of(pid_t pid);
// What is missing at this node for files of a plan; empty: nothing.
std::vector<std::string> missing_here(const std::vector<File>& files);

}  // namespace gob::migration
