// CommonLink: gobmigrate's end of a common keeper (common_keeper.h), a process that outlives it. It
// obeys one command after the other, also those of a fork of this process; a join that is refused
// is answered when its process has lost that memory, and the next is obeyed meanwhile.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <string>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"

namespace gob::migration {

class CommonLink {
 public:
  // Starts one, from this program. `log`: what it says goes where this process's does.
  static Result<CommonLink> start(const std::string& socket, bool log);

  // What processes `root` and its descendants have in common with others is copied into containers,
  // while all of them run.
  Status prepare(pid_t root);
  struct Shared {
    std::uint64_t places = 0;  // areas of the processes that move, in which containers belong
    std::uint64_t bytes = 0;   // of what was copied
    double stopped_ms = 0;     // how long those that stay stood still
  };
  // They stand still. Those that stay have the containers mapped instead when this returns, and run
  // on; those that move have places for them, and have to join. An error: all is as it was.
  Result<Shared> share(pid_t root);
  // They stand still, at the node of the keeper's gobd: containers are mapped in all their places;
  // how many. After an error accesses to the places raise SIGBUS.
  Result<std::uint64_t> join(pid_t root);

 private:
  explicit CommonLink(UniqueFd socket) : socket_(std::move(socket)) {}
  Result<std::string> ask(const std::string& command, pid_t root, std::chrono::milliseconds limit);
  UniqueFd socket_;
};

}  // namespace gob::migration
