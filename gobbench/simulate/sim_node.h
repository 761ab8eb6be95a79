// SimNode: one node of a simulated cluster: the real protocol core, the real stream detector and
// the real synchronisation service, with a model of programs' memory below and of time around them.
// What it does at each event is what libgob/runtime's Shard and Node do. One thread.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "gobbench/simulate/program_memory.h"
#include "gobbench/simulate/round.h"
#include "libgob/linker/stream_detector.h"
#include "libgob/protocol/core.h"
#include "libgob/sync/sync_service.h"

namespace gob::bench {

struct NodeCounters {
  std::uint64_t messages_out = 0;      // of shards
  std::uint64_t manager_messages = 0;  // received as a page manager
  std::uint64_t faults = 0;
  std::uint64_t pages_in = 0;  // with their bytes
};

class SimNode {
 public:
  SimNode(const CoreConfig& config, const Timing& timing);

  // Each program maps all of it.
  void add_container(const ContainerInfo& info);

  // --- the shard's thread; the round says when, and takes what is sent
  // The program faulted: streams are recognised, the core is told.
  void on_fault(PageId page, Access access, Round& round);
  void on_packet(const Packet& packet, Round& round);
  // Holds that are over by the round's time.
  void expire_holds(Round& round);
  void step(const Event& event, Round& round);

  // --- the control thread
  // The program meets `count` programs. True: they are all here already.
  [[nodiscard]] bool on_barrier(const std::string& name, std::uint32_t count, Round& round);
  // True: the barrier has opened for the program.
  [[nodiscard]] bool on_control_packet(const Packet& packet, Round& round);
  [[nodiscard]] bool install_sync_view(const View& view, Round& round);

  [[nodiscard]] const Core& core() const { return core_; }
  [[nodiscard]] ProgramMemory& memory() { return memory_; }
  [[nodiscard]] NodeCounters& counters() { return counters_; }
  // When to wake for a hold that keeps a message waiting; 0: never.
  [[nodiscard]] SimTime hold_deadline() const;
  // When the core said last that it serves.
  [[nodiscard]] SimTime serving_since() const { return serving_since_; }
  // When the program's page was granted, if it was since this was last asked.
  [[nodiscard]] std::optional<SimTime> take_wake_up();
  // What no correct cluster does, in words; empty if all is well.
  [[nodiscard]] const std::string& failure() const { return failure_; }

 private:
  struct HeldUntil {
    SimTime deadline;
    PageSet pages;
  };
  void note_taken(PageSet pages);
  void perform(const Action& action, Round& round);
  void grant(PageSet pages, Access access, bool stores, Round& round);
  [[nodiscard]] bool perform(const SyncService::Out& out, Round& round);

  const Timing& timing_;
  Core core_;
  SyncService sync_;
  ProgramMemory memory_;
  std::map<ContainerId, StreamDetector> streams_;
  std::deque<HeldUntil> holds_;
  Actions actions_;
  NodeCounters counters_;
  SimTime serving_since_ = 0;
  std::optional<SimTime> wake_up_;
  std::string failure_;
};

}  // namespace gob::bench
