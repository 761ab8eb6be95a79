// A seeded run of a cluster in virtual time: programs with several habits, a network with a latency
// model, slow and failing disks, memory pressure, crashes, restarts, departures. The same options
// give the same run to the byte. One thread owns it.
#pragma once

#include <cstdint>
#include <optional>
#include <queue>
#include <string>
#include <vector>

#include "tests/sim/random.h"
#include "tests/sim/scenario.h"
#include "tests/sim/world.h"

namespace gob::sim {

enum class Latency : std::uint8_t {
  kFixed,
  kUniform,
  kHeavyTail,
  kLopsided,  // some links are up to a thousand times slower than others, for a while
};

struct SimOptions {
  std::uint64_t seed = 1;
  WorldConfig world;
  std::uint64_t steps = 10'000;
  Latency latency = Latency::kUniform;
  bool crashes = false;
  bool disconnects = false;
  bool leaves = false;
  bool removals = false;  // of containers
  bool flushes = true;    // asked for from outside
  bool expiries = true;
  bool io_failures = false;
  bool write_backs = false;  // of files
  bool syncs = false;        // of files
  unsigned writes_percent = 40;
};

// Options of a seed's own choosing: sizes, pressure, faults, latency.
SimOptions options_of(std::uint64_t seed, std::uint64_t steps);
std::string to_text(const SimOptions& options);

struct SimResult {
  std::string violation;  // empty: none
  std::uint64_t steps = 0;
  std::uint64_t accesses = 0;
  std::uint64_t refusals = 0;
  std::uint64_t rests = 0;   // times the cluster was brought to rest and checked
  std::uint64_t digest = 0;  // of all that happened
};

class Simulator {
 public:
  explicit Simulator(const SimOptions& options);
  // Records every event into `record` unless that is null.
  SimResult run(std::vector<WorldEvent>* record);

 private:
  using Time = std::uint64_t;  // ns
  struct Planned {
    Time time;
    std::uint64_t order;
    WorldEvent event;
    bool operator>(const Planned& other) const {
      return time != other.time ? time > other.time : order > other.order;
    }
  };
  // What a program's thread likes to do.
  struct Habit {
    enum class Kind : std::uint8_t { kAnywhere, kFewPages, kInOrder, kReadThenWrite };
    Kind kind = Kind::kAnywhere;
    unsigned page = 0;
    bool write_next = false;
    bool planned = false;
  };

  void plan(Time delay, const WorldEvent& event);
  void plan_access(unsigned node, unsigned thread);
  void plan_environment();
  void plan_faults();
  void plan_disconnect(Time when, NodeId stays, NodeId loser);
  void apply(const WorldEvent& event);
  void follow_up(const WorldEvent& event);
  void watch_membership();
  WorldEvent choose_access(unsigned node, unsigned thread);
  void bring_to_rest();
  void press_clocks();
  void drain();
  void plan_write_backs();
  Time latency(unsigned link);

  SimOptions options_;
  Random random_;
  World world_;
  std::priority_queue<Planned, std::vector<Planned>, std::greater<>> queue_;
  Time now_ = 0;
  std::uint64_t order_ = 0;
  std::vector<Time> last_arrival_;      // of each link
  std::vector<std::uint8_t> slowness_;  // of each link, a power of two; kLopsided
  std::vector<Habit> habits_;           // [node * threads + thread]
  bool may_starve_ = false;             // memory is short: a page may have no frame to come to
  bool resting_ = false;
  bool proposing_ = false;
  SimResult result_;
  std::vector<WorldEvent>* record_ = nullptr;
};

// The shortest scenario found by leaving out events that still violates; `effort` bounds the
// replays.
Scenario shrink(Scenario scenario, unsigned effort);

}  // namespace gob::sim
