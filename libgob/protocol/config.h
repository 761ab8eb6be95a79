// Tunables of the protocol core, in one place. Values are the same on every shard of a node.
#pragma once

#include <cstdint>

#include "libgob/base/ids.h"

namespace gob {

struct CoreConfig {
  NodeId self;
  std::uint16_t cluster_size = 1;  // configured nodes; decides whether copysets are exact
  std::uint64_t budget_frames = ~std::uint64_t{0} >> 1;  // frames this core may keep resident
  std::uint64_t low_water_frames = 64;    // start to flush when fewer frames than this are free
  std::uint64_t high_water_frames = 128;  // flush until so many are free
  bool swap = true;                       // an I/O linker can keep pages outside memory
  bool hold_grants = true;                // Mirage's time window after a grant to a waiting program
  bool create_ahead = true;               // pages asked for ahead with write access may be created
  friend bool operator==(const CoreConfig&, const CoreConfig&) = default;
};

}  // namespace gob
