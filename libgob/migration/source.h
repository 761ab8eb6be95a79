// The source's side of a migration: asks the target, freezes the process, hands it over, and says
// how long each part took. One call at a time, on the calling thread.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>

#include "libgob/base/result.h"
#include "libgob/migration/common_link.h"
#include "libgob/migration/inspect.h"
#include "libgob/migration/migration.pb.h"

namespace gob::migration {

struct SourceOptions {
  std::string socket;
  std::string node;  // the target
  pid_t pid = 0;
  std::string criu;
  bool lazy = true;      // else all memory goes before the process runs again
  bool stream = true;    // bring pages nobody asked for
  bool any_cpu = false;  // whatever features the target's processor lacks
  bool wait = false;     // until the process needs this node no more
  std::string folder = "/dev/shm";
};

// Milliseconds; the process stands still from the first to the fourth.
struct Phases {
  double stop = 0;       // all its threads stand still, without a lock that stays: part of dump
  double leave = 0;      // libgob in it lets go of its containers: part of stop
  double dump = 0;       // CRIU takes the context (basic: and all memory)
  double transfer = 0;   // images into a container
  double restore = 0;    // the target reads them, CRIU makes the process; of this,
  double fetch = 0;      // until the images were there,
  double make = 0;       // CRIU's part,
  double join = 0;       // and until libgob has its containers again
  double take_over = 0;  // the source is given up, the target lets it run
  double hand_over = 0;  // afterwards: memory leaves the source process
  [[nodiscard]] double freeze() const { return dump + transfer + restore + take_over; }
};

struct Moved {
  pid_t there = 0;  // the process at the target
  std::uint64_t image_bytes = 0;
  std::uint64_t lazy_pages = 0;
  std::uint64_t hidden_pages = 0;  // of them; CRIU was not shown these
  std::uint64_t out_pages = 0;     // that were on their way from earlier moves, and still are
  std::uint64_t locks = 0;         // on files, that went along
  CommonLink::Shared common;       // memory that became containers
  std::vector<Cover> covers;       // what it sees of other nodes, as long as it lives
  Phases phases;
  double arrival = 0;  // ms from "it runs there" until all its memory was there; if waited for
  Arrived arrived;     // likewise
};

// What is told of a move while it is under way.
struct Progress {
  // Nothing has been stopped before. What fails earlier is a refusal.
  std::function<void()> freezing;
  // It runs at the target; its memory has not left yet.
  std::function<void(const Moved&)> running;
};

// Asks the target whether it could take the process, and how that would reach its files; nothing is
// frozen. The error says why not.
Result<Ready> ask_target(const SourceOptions& options, const Plan& plan);
// Moves it. After an error the process goes on here, unless the error's code is kLost: then it is
// dead everywhere.
Result<Moved> migrate(const SourceOptions& options, const Plan& plan, const Progress& progress);

}  // namespace gob::migration
