// Scenario files: a cluster and what happens in it, one event a line, so that a counterexample can
// be read, kept and replayed.
//
//   cluster nodes=3 containers=1 pages=2 stride=1 threads=1 files=0 home=0
//   core budget=100 low=0 high=0 swap=1 hold=1 create_ahead=1
//   budgets 100 1 100              # optional: frames of each node
//   start                          # optional: the first view is established
//   read node=0 thread=0 pages=1:0:3 ahead=4      # container:stripe:mask, masks in hexadecimal
//   deliver from=0 node=2
//   settle                         # optional: everything under way ends, all must be at rest
//   expect the bytes of page 0     # optional, at the end: a violation whose text contains this
//
// `#` starts a comment. Fields not written have their default value. Events that cannot happen are
// passed over.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "tests/sim/world.h"

namespace gob::sim {

struct Scenario {
  WorldConfig config;
  bool start = true;
  std::vector<WorldEvent> events;
  bool settle = false;
  std::string expect;  // empty: no violation
};

Result<Scenario> read_scenario(std::istream& in);
void write_scenario(const Scenario& scenario, std::ostream& out);
std::string to_text(const WorldEvent& event);

// Applies the events, writing each with what it does to `trace` unless that is null. Returns the
// first violation, or empty.
std::string replay(const Scenario& scenario, std::ostream* trace);

}  // namespace gob::sim
