// Experiment: one litmus program, its threads placed on nodes, run on real daemons. Main thread:
// forks the programs.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "gobbench/cluster.h"
#include "libgob/base/result.h"
#include "tests/litmus/batch.h"
#include "tests/litmus/program.h"

namespace gob::litmus {

struct Setup {
  Program program;
  std::vector<unsigned> node_of;  // of each thread; threads on one node are one program's
  Layout layout = Layout::kPages;
  bool fenced = false;
  unsigned nodes = 2;  // of the cluster; those without a thread may still manage pages

  [[nodiscard]] bool on_one_node() const;
  // The control: nothing but the processor's own store buffers can be seen here, and must be.
  [[nodiscard]] bool is_control() const;
  [[nodiscard]] std::set<OutcomeCode> allowed() const;
};

struct Tally {
  std::map<OutcomeCode, std::uint64_t> counts;
  std::uint64_t runs = 0;
  std::uint64_t alien = 0;   // runs that saw what nobody wrote there
  std::uint64_t faults = 0;  // page faults
  double seconds = 0;
};

struct Verdict {
  std::uint64_t forbidden = 0;  // runs, alien ones too
  std::uint64_t weak = 0;       // allowed here, but not by sequential consistency
};
[[nodiscard]] Verdict judge(const Setup& setup, const Tally& tally);

// What the suite consists of.
[[nodiscard]] std::vector<Setup> all_setups();

// How the programs of a node reach a container.
enum class Memory : std::uint8_t {
  kLibgob,
  kSegments,  // each node has a System V segment of its own that is linked to it
};

// At least `runs` runs. The control goes on until it has seen a weak outcome, within reason.
[[nodiscard]] Result<Tally> run_setup(const bench::Cluster& cluster, const Setup& setup,
                                      std::uint64_t runs, std::uint64_t seed,
                                      Memory memory = Memory::kLibgob);

}  // namespace gob::litmus
