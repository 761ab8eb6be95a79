// Racer: one thread of a litmus program on one node. It runs batch after batch, together with the
// program's other threads; one of them counts what came out.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/litmus/arena.h"
#include "tests/litmus/batch.h"
#include "tests/litmus/program.h"

namespace gob::litmus {

struct Race {
  Program program;
  Layout layout = Layout::kPages;
  std::uint64_t seed = 1;
  std::uint64_t runs = 0;  // at least
  // Go on until an outcome that sequential consistency forbids was seen, up to this many runs.
  std::uint64_t runs_for_weak = 0;
};

// Runs thread `thread` of the race to its end. `containers`: where each is mapped in this program.
// False: the arena says why.
bool run_racer(const Race& race, unsigned thread, const std::vector<std::uint64_t*>& containers,
               Arena& arena);

}  // namespace gob::litmus
