// The ways of moving a process that figures 13 and 14 compare, on two nodes of a private cluster.
// Main thread.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gobbench/migration/migrant.h"
#include "gobbench/process.h"
#include "gobbench/session.h"

namespace gob::bench {

enum class Way { kStays, kGob, kGobOnDemand, kBasic, kCriuLazy, kCriuFull };
[[nodiscard]] const char* name_of(Way way);

// One run of the program, and its move.
struct Trip {
  MigrantReport report;
  // Milliseconds, as the mover sees them: the context is taken; it goes to the target; the process
  // is made; it is let go. CRIU's own ways have no fourth. The first one begins before the freeze.
  std::array<double, 4> phases{};
  std::uint64_t sent_bytes = 0;  // by the source's network interface, until the program's end
  std::uint64_t faults = 0;      // that the target answered; gob's ways only
  double fault_us = 0;           // each, on average
  std::vector<std::uint64_t> fault_slots;  // by duration, as in message Arrived (migration.proto)
};

struct RoadOptions {
  std::uint64_t largest_bytes = 0;  // of memory that will move
  std::string criu;                 // a program, 3.17 or later
};

class Road {
 public:
  // Two nodes in network namespaces, and a server that takes processes on the second. Needs root.
  static Result<Road> open(const Session& session, const RoadOptions& options);
  // Starts the program on the first node and moves it once it is under way. With neither steps nor
  // seconds it ends after the move.
  Result<Trip> travel(Way way, MigrantOptions program);

 private:
  explicit Road(Cluster cluster) : cluster_(std::move(cluster)) {}
  Status move(Way way, const Process& program, Trip& trip);
  Status by_gobmigrate(Way way, pid_t pid, Trip& trip);
  Status by_criu_lazily(pid_t pid, Trip& trip);
  Status by_criu_fully(pid_t pid, Trip& trip);
  Status restore(bool lazy, pid_t pid);
  SpawnOptions criu(std::size_t node, const std::string& folder,
                    const std::vector<std::string>& arguments) const;
  // Returns when it says that it is ready. Pages go to or come from node `pages`.
  [[nodiscard]] Result<Process> start_criu(std::size_t node, const std::string& folder,
                                           std::vector<std::string> arguments,
                                           std::size_t pages) const;
  [[nodiscard]] Error criu_failed(const Error& error, const std::string& folder,
                                  const std::string& command) const;
  [[nodiscard]] std::string address(std::size_t node) const { return cluster_.nodes()[node].host; }

  Cluster cluster_;
  std::string gobmigrate_;
  std::string criu_;
  UniqueFd log_;    // what programs say that is no result
  Process server_;  // gobmigrate serve
  unsigned trips_ = 0;
  // Of the trip under way.
  std::string from_, to_;  // folders for CRIU's images
  std::vector<Process> helpers_;
  UniqueFd target_;  // closed: the restored process ends
};

// Beside this program, where a build leaves it, or a name for a search in PATH.
[[nodiscard]] std::string find_gobmigrate();

}  // namespace gob::bench
