// Is there room for what a move puts into containers, memory and /dev/shm? Asked before the freeze:
// a source that cannot hand its memory over later is lost. Functions; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/migration/inspect.h"
#include "libgob/migration/migration.pb.h"

namespace gob::migration {

// What a move needs.
struct Need {
  std::uint64_t pages = 0;   // of containers, in frames or swap of any node, each once
  std::uint64_t images = 0;  // bytes of CRIU's files, at both ends
};
// `lazy`: memory follows on demand, else it goes with the images. Memory in common with others is
// in containers before the target is asked.
Need need_of(const Plan& plan, bool lazy);

// What its gobd says of a node and, by what that heard last, of the other members of the cluster.
struct Rooms {
  Room own;
  struct Other {
    std::string node;
    std::optional<std::uint64_t> free_pages;  // none: it has not said
  };
  std::vector<Other> others;
};
Result<Rooms> rooms_of(const std::string& socket);

// kNoSpace if the pages do not fit into the cluster: what there is, and what to do. `target`: as
// that said; one of an older release says nothing, and is trusted, as is a member that has not
// said.
Status fits_cluster(std::uint64_t pages, const std::string& source, const Rooms& rooms,
                    const std::string& target, const Room& room);

// Bytes that this machine has left.
struct Machine {
  std::uint64_t memory = 0;  // with its swap
  std::uint64_t folder = 0;  // in the file system of the images
};
Machine machine_of(const std::string& folder);
// kNoSpace if the machine lacks memory or room in `folder`. `process`: bytes that the process will
// have here. `both`: the other end of the move is on this machine, too. `pages`: that may come into
// frames of this node, which has `room`.
Status fits_machine(const Machine& machine, const std::string& folder, std::uint64_t process,
                    std::uint64_t images, bool both, std::uint64_t pages, const Room& room);

}  // namespace gob::migration
