#include "tests/membership/membership_sim.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace gob::test {
namespace {

// GOB_SIM_SEED repeats one seed; GOB_SIM_RUNS makes the search longer.
std::uint64_t setting(const char* name, std::uint64_t fallback) {
  const char* text = std::getenv(name);
  return text == nullptr ? fallback : std::strtoull(text, nullptr, 10);
}

void search(SimOptions options, std::uint64_t runs) {
  const std::uint64_t only = setting("GOB_SIM_SEED", 0);
  runs = setting("GOB_SIM_RUNS", runs);
  std::size_t views = 0;
  for (std::uint64_t seed = 1; seed <= runs; ++seed) {
    options.seed = only != 0 ? only : seed;
    MembershipSim sim(options);
    const std::string problem = sim.run();
    ASSERT_TRUE(problem.empty()) << problem << "\nrepeat with GOB_SIM_SEED=" << options.seed;
    views += sim.views();
    if (only != 0) return;
  }
  EXPECT_GT(views, runs);
}

TEST(MembershipSim, CrashesAndRestarts) {
  search({.nodes = 3, .cuts = false, .departures = false}, 150);
  search({.nodes = 5, .cuts = false, .departures = false}, 100);
}

TEST(MembershipSim, Cuts) {
  search({.nodes = 3, .crashes = false, .departures = false}, 150);
  search({.nodes = 5, .crashes = false, .departures = false, .faults = 40}, 100);
}

TEST(MembershipSim, Departures) { search({.nodes = 4, .crashes = false, .cuts = false}, 150); }

TEST(MembershipSim, EverythingAtOnce) {
  for (std::size_t nodes : {1u, 2u, 3u, 4u, 5u, 7u}) search({.nodes = nodes, .faults = 50}, 60);
}

}  // namespace
}  // namespace gob::test
