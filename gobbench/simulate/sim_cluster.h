// SimCluster: nodes that run the real protocol core, their threads, ports and programs, in a
// discrete-event simulation of time. Nothing in it is random: the same cluster and programs give
// the same times. One thread.
//
// A node has two threads of gobd (shard, control), one program, and one port to a switch that never
// blocks. A thread sleeps until something comes, wakes after wake_us, does all that is there, and
// sends what it caused; then it looks again. A packet leaves its port after those before it, takes
// link_us to the other port, and comes in after those before it: both ports serialise.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gobbench/simulate/event_queue.h"
#include "gobbench/simulate/program.h"
#include "gobbench/simulate/sim_node.h"

namespace gob::bench {

// An access of a program that was not allowed at once.
struct MissSample {
  PageId page;
  Access access = Access::kRead;
  SimTime ns = 0;  // from the access until the program went on with it
};

class SimCluster {
 public:
  // 1 to kMaxNodes nodes, in one view, at rest; no time has passed.
  SimCluster(const Timing& timing, unsigned nodes, const std::vector<ContainerInfo>& containers);
  SimCluster(const SimCluster&) = delete;
  SimCluster& operator=(const SimCluster&) = delete;

  // The program of a node touches pages of one stripe and everything that follows is done at once,
  // without any time: for bringing pages where a measurement wants them.
  void settle(NodeId node, PageSet pages, Access access);

  // Runs a program on each node (node i: programs[i]) until all have ended. Fails if one waits for
  // ever or the cluster does what no correct one does.
  [[nodiscard]] Status run(std::vector<std::unique_ptr<Program>> programs);
  // Every node hears of a view at once; runs until all serve in it, and returns how long that took.
  [[nodiscard]] Result<SimTime> change_view(const View& view);

  // Of the last run: from the first program's start of its clock to the last one's end.
  [[nodiscard]] SimTime measured_ns() const { return last_end_ - first_start_; }
  [[nodiscard]] const std::vector<MissSample>& misses(unsigned node) const {
    return programs_[node].misses;
  }
  [[nodiscard]] SimNode& node(unsigned i) { return nodes_[i]; }
  [[nodiscard]] unsigned size() const { return static_cast<unsigned>(nodes_.size()); }
  [[nodiscard]] const View& view() const { return view_; }
  [[nodiscard]] SimTime now() const { return queue_.now(); }
  [[nodiscard]] std::uint64_t events() const { return queue_.planned(); }

 private:
  enum class What : std::uint8_t {
    kPacketAtPort,  // its first byte reached the receiver's port
    kPacketHere,    // its last byte
    kFault,
    kBarrierCall,
    kNewView,
    kHold,   // a hold that keeps messages waiting is over
    kServe,  // a thread looks at what there is
    kProgram,
  };
  enum Thread : std::uint8_t { kShard, kControl };
  struct Event {
    What what;
    Thread thread = kShard;
    std::uint16_t node = 0;
    std::uint32_t packet = 0;  // place in packets_
  };
  // Something for a thread to do.
  struct Item {
    What what;
    std::uint32_t packet = 0;
  };
  struct Server {
    std::vector<Item> inbox;
    SimTime busy_until = 0;
    bool planned = false;  // a kServe is in the queue
  };
  struct Running {
    enum class State : std::uint8_t { kReady, kComputing, kWaiting, kEnded };
    std::unique_ptr<Program> program;
    State state = State::kEnded;
    std::optional<ProgramStep> step;
    unsigned range = 0;  // where in the step it is
    std::uint32_t page = 0;
    SimTime compute_until = 0;
    std::optional<MissSample> miss;  // under way; ns: when it began
    std::vector<MissSample> misses;
  };

  void start();
  void handle(const Event& event);
  void wake_program(unsigned node);
  void give(Thread thread, unsigned node, Item item, bool awake);
  void serve(Thread thread, unsigned node);
  void serve_shard(unsigned node, const Item& item, Round& round);
  void end_round(Thread thread, unsigned node, Round& round);
  void transmit(SimTime at, Packet packet);
  void run_program(unsigned node);
  bool touch_all(unsigned node, Running& running);
  void end_program(unsigned node);
  void fail(unsigned node, const std::string& why);
  [[nodiscard]] bool computes(unsigned node) const;
  [[nodiscard]] SimTime transfer_ns(std::size_t bytes) const;
  [[nodiscard]] Status drain();

  const Timing timing_;
  View view_;
  View next_view_;
  std::deque<SimNode> nodes_;
  std::vector<std::array<Server, 2>> servers_;
  std::vector<Running> programs_;
  std::vector<SimTime> port_out_free_;
  std::vector<SimTime> port_in_free_;
  std::vector<SimTime> hold_planned_;  // of each node; 0: none
  std::vector<Packet> packets_;
  std::vector<std::uint32_t> free_packets_;
  EventQueue<Event> queue_;
  const Round::Computes computes_ = [this](NodeId node) { return computes(node.value()); };
  std::size_t running_ = 0;
  std::size_t serving_ = 0;
  SimTime first_start_ = 0;
  SimTime last_end_ = 0;
  std::string failure_;
};

}  // namespace gob::bench
