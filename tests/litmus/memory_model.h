// What a litmus program may end with, found by trying everything.
//
// The model is the system's: each thread has a first-in first-out store buffer (x86-TSO); threads
// on one node share that node's copy of a page; between nodes a page has one writer or many
// readers. A node that loses a right to a page first lets all store buffers of its threads drain:
// the right is taken by changing page tables, and every core that runs the program acknowledges
// that by a store of its own, which leaves its buffer after those of the program. So threads on
// different nodes get sequential consistency without fences, threads on one node x86-TSO, and
// mixtures what lies between.
#pragma once

#include <set>
#include <vector>

#include "tests/litmus/program.h"

namespace gob::litmus {

// node_of[t]: where thread t runs. page_of[v]: which page holds variable v.
[[nodiscard]] std::set<OutcomeCode> allowed_outcomes(const Program& program,
                                                     const std::vector<unsigned>& node_of,
                                                     const std::vector<unsigned>& page_of);

// The same under sequential consistency: accesses happen one at a time.
[[nodiscard]] std::set<OutcomeCode> sequential_outcomes(const Program& program);

}  // namespace gob::litmus
