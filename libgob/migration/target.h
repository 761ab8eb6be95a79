// The target's side of one migration: brings the process to life, serves its memory, and stays
// until it ends. Runs in a process of its own.
#pragma once

#include <string>

#include "libgob/base/result.h"

namespace gob::migration {

struct TargetOptions {
  std::string socket;  // of this node's gobd
  std::string session;
  std::string criu;                 // program
  std::string folder = "/dev/shm";  // where images are kept during the restore: memory, not disk
};

// Returns when the migrant has ended, or why there is none.
Status run_target(const TargetOptions& options);

// Takes migrations for this node, each with a process of its own, until `stop_fd` is readable or
// gobd is gone. `program`: what to start, with arguments before those of a session.
Status serve(const std::string& socket, const std::string& program, const std::string& criu,
             int stop_fd);

}  // namespace gob::migration
