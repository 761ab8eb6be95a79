// Arena: ordinary memory of this machine that the programs of one experiment share beside Gobelins:
// where they meet, and where they leave what they saw. Meeting there costs no message of gobd, and
// orders runs with respect to each other, never the accesses inside a run.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "tests/litmus/program.h"

namespace gob::litmus {

inline constexpr unsigned kMaxRuns = 2048;  // of a batch

// A barrier that can be used again and again. Waits at most kMeetTimeoutNs, and not at all once
// `failed` is set.
class Rendezvous {
 public:
  // Waits for all `count`, then, spinning, until `lead_ns` after the last has come: sleepers have
  // woken up by then, and all leave at once. False: somebody failed or did not come.
  bool meet(std::uint32_t count, std::uint64_t lead_ns, const std::atomic<std::uint32_t>& failed);

 private:
  std::atomic<std::uint32_t> arrived_ = 0;
  std::atomic<std::uint32_t> phase_ = 0;
  std::atomic<std::uint64_t> start_ns_ = 0;
};
inline constexpr std::uint64_t kMeetTimeoutNs = 60'000'000'000;

struct Arena {
  // Notes the first failure; from then on nobody waits for anybody.
  void fail(const std::string& why);
  [[nodiscard]] std::string failure() const;

  Rendezvous programs;
  Rendezvous threads;
  std::atomic<std::uint32_t> failed = 0;
  std::array<char, 512> why{};

  // Of the current batch: the raw words that each run's loads returned.
  std::uint64_t loaded[kMaxThreads][kMaxRuns][kMaxLoads];
  // Of all batches; written by one thread at a time.
  std::uint64_t counts[kOutcomeCodes];
  std::uint64_t alien = 0;  // runs that saw a value nobody wrote there in this batch
  std::uint64_t runs = 0;
  std::atomic<std::uint64_t> faults = 0;  // page faults of the threads
};

// Shared with every child forked from now on.
struct UnmapArena {
  void operator()(Arena* arena) const;
};
using ArenaPointer = std::unique_ptr<Arena, UnmapArena>;
// Throws std::system_error.
[[nodiscard]] ArenaPointer make_arena();

}  // namespace gob::litmus
