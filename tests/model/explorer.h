// Every state that a small cluster of real cores can get into, breadth first: all orders of message
// arrival (FIFO for each pair), program accesses, holds, I/O results, flushes, time-outs, crashes
// and view changes, within bounds on how often the environment acts. Checks the invariants in every
// state, and that from every state all requests can end. Single-threaded.
#pragma once

#include <cstdint>
#include <deque>
#include <set>
#include <string>
#include <vector>

#include "tests/model/parts.h"
#include "tests/sim/scenario.h"

namespace gob::model {

// How often the environment may act; kAny is without a bound (values are renamed as they get old,
// so the states stay finite all the same).
inline constexpr unsigned kAny = 15;
inline constexpr unsigned kAnyOfNode = 3;
struct Bounds {
  unsigned reads = kAnyOfNode;   // of each node
  unsigned writes = kAnyOfNode;  // of each node
  unsigned accesses = kAny;      // in all, as the rest
  unsigned flushes = 0;
  unsigned expiries = 0;
  unsigned io_failures = 0;
  unsigned crashes = 0;
  unsigned cuts = 0;  // connections that break; one of the two nodes is left behind, then fenced
  unsigned restarts = 0;
  unsigned leaves = 0;
  unsigned write_backs = 0;  // of files
  unsigned discards = 0;
  unsigned syncs = 0;        // of the file; as many that only list what is in memory
  bool runs = false;         // programs also access all pages as one run (pages of one stripe)
  bool ahead = false;        // programs also ask for the other pages ahead of need
  std::uint64_t max_states = 50'000'000;
};

struct Report {
  std::uint64_t states = 0;
  std::uint64_t transitions = 0;
  unsigned depth = 0;
  std::size_t node_states = 0;
  std::size_t link_states = 0;
  bool complete = false;       // nothing was left unexplored
  std::set<std::string> seen;  // what the protocol was made to do (Parts::seen)
  std::string violation;       // empty: none
  sim::Scenario counterexample;
};

class Explorer {
 public:
  Explorer(const sim::WorldConfig& config, const Bounds& bounds);
  Report run();

 private:
  static constexpr unsigned kMaxNodes = 4;
  static constexpr std::uint32_t kDown = ~0u;  // in place of a node

  // One state; all-integer, compared word for word.
  struct State {
    std::uint32_t nodes[kMaxNodes] = {};
    std::uint32_t links[kMaxNodes * kMaxNodes] = {};  // [from * n + to]
    std::uint32_t oracle = 0;
    std::uint32_t accesses = 0;  // left, 4 bits a node: 2 reads, 2 writes; all set: any number
    std::uint64_t luck = 0;      // left of each Luck, 4 bits; kAny is never used up
    // 8 bits: pages written; 8: pages that may be lost; crashed; failed; 8: pages written by others
    // since a node was left behind; from kWriter on, for the first pages, 3 each: 1 + a node other
    // than the home that wrote what the file has not, or 0; from kDisk on, 2 a page: what the file has whose home is down;
    // from kDoubt on, 8: pages of which cores may not know that the file has them; from kDiscarding
    // on, 8: pages whose discard is under way
    std::uint64_t truth = 0;
    // While a sync is under way. 8 bits: pages whose file has not yet what was written before it
    // was asked for; from kToList on, 8: pages that are in memory since; from kEnded on, 8: pages
    // that the home may have written before it came back.
    std::uint32_t sync = 0;
  };
  enum Luck : unsigned {
    kFlushes = 0,
    kExpiries = 4,
    kFailures = 8,
    kCrashes = 12,
    kRestarts = 16,
    kLeaves = 20,
    kAccesses = 24,
    kCuts = 28,
    kWriteBacks = 32,
    kDiscards = 36,
    kSyncs = 40,
  };
  static constexpr std::uint64_t kCrashed = 1u << 16;
  static constexpr std::uint64_t kFailed = 1u << 17;
  static constexpr unsigned kOutran = 18;
  static constexpr unsigned kWriter = 26;
  static constexpr unsigned kWriterPages = 2;
  static constexpr unsigned kDisk = 32;
  static constexpr unsigned kDoubt = 48;
  static constexpr unsigned kDiscarding = 56;
  static constexpr unsigned kToList = 8;
  static constexpr unsigned kEnded = 16;

  struct Origin {
    std::uint32_t parent;
    std::uint32_t event;  // packed
  };

  void expand(std::uint32_t id);
  void try_node_events(const State& state, unsigned node);
  [[nodiscard]] bool stays(const State& state, unsigned node) const;
  [[nodiscard]] bool others_stay(const State& state, unsigned node) const;
  void try_accesses(const State& state, unsigned node);
  void try_crashes(const State& state, unsigned node);
  // Takes the event in `state`; `progress` if nothing but time is needed for it.
  void take(const State& state, const sim::WorldEvent& event, bool progress);
  void add(const State& next, const sim::WorldEvent& event, bool progress);
  void settle_step(const State& before, State& next, const sim::WorldEvent& event,
                   const NodeStep& step);
  void move_node(State& next, const sim::WorldEvent& event);
  void note_losses(State& next) const;
  void note_doubts(State& next) const;
  void note_writes(State& next, NodeId writer, PageMask wrote) const;
  [[nodiscard]] static unsigned writer_of(const State& state, unsigned page) {
    return page < kWriterPages ? static_cast<unsigned>(state.truth >> (kWriter + 3 * page)) & 7 : 0;
  }
  static void set_writer(State& state, unsigned page, unsigned writer);
  // The node ends, or is left behind.
  void forget_writers(State& next, NodeId gone) const;
  // Pages of which the node may read old bytes: it is left behind, and others wrote since.
  [[nodiscard]] PageMask may_be_stale(const State& state, unsigned node) const;
  void check(const State& state);
  void check_rest(const State& state);
  [[nodiscard]] bool is_quiet(const State& state) const;
  [[nodiscard]] PageMask in_memory(const State& state) const;
  // What the facts `at` each member and `between` each two say.
  [[nodiscard]] PageMask with_members(const State& state, PageMask NodeFacts::*at,
                                      PageMask LinkFacts::*between) const;
  [[nodiscard]] PageMask existing(const State& state) const;
  // Pages of files whose last write ended with their home: the file's bytes are what counts.
  [[nodiscard]] PageMask rolled_back(const State& state) const;
  [[nodiscard]] bool both_died(const View& view, unsigned page) const;
  [[nodiscard]] NodeId home_of(unsigned page) const {
    return config_.home_of(config_.geometry.page(page).container);
  }
  [[nodiscard]] bool disk_has_last(const State& state, unsigned page) const;
  void ask_sync(State& next, bool list) const;
  void settle_sync(State& next) const;
  void end_sync(State& next, NodeId home, const NodeStep& step);
  void check_liveness();
  void fail(std::string text);
  void write_counterexample(std::uint32_t id, const sim::WorldEvent* last);

  // The set of states.
  [[nodiscard]] State load(std::uint32_t id) const;
  std::uint32_t intern(const State& state, bool& is_new);
  void pack(const State& state, std::uint32_t* words) const;

  static std::uint32_t pack_event(const sim::WorldEvent& event, PageMask pages, PageMask ahead);
  [[nodiscard]] sim::WorldEvent unpack_event(std::uint32_t packed) const;
  static unsigned left(const State& state, Luck what) { return static_cast<unsigned>(state.luck >> what) & 0xf; }
  static void spend(State& state, Luck what);
  // What the file of a page has whose home is down: 0 nothing, 1 the last write, else an older one.
  static sim::Value disk_of(const State& state, unsigned page) {
    return (state.truth >> (kDisk + 2 * page)) & 3;
  }
  void keep_disk(State& next, NodeId gone) const;
  static void set_disk(State& state, unsigned page, sim::Value value);
  static void spend_access(State& state, unsigned node, bool write);

  sim::WorldConfig config_;
  Bounds bounds_;
  Parts parts_;
  unsigned n_;
  unsigned words_;
  Report report_;
  std::uint32_t current_ = 0;  // being expanded
  const sim::WorldEvent* taking_ = nullptr;

  static constexpr std::size_t kChunk = std::size_t{1} << 16;
  std::deque<std::vector<std::uint32_t>> chunks_;
  std::vector<std::uint32_t> slots_;
  std::vector<Origin> origins_;
  std::vector<std::uint32_t> edge_from_;  // progress edges
  std::vector<std::uint32_t> edge_to_;
};

}  // namespace gob::model
