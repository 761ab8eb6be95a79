// A whole cluster: nodes, FIFO links, membership, and the truth about every page that the checks
// compare with. Deterministic: the same events give the same cluster. Drives the simulator, replays
// scenarios and the paper's tests. One thread owns it.
#pragma once

#include <deque>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/sim/geometry.h"
#include "tests/sim/history.h"
#include "tests/sim/host_model.h"
#include "tests/sim/view_oracle.h"

namespace gob::sim {

struct WorldConfig {
  Geometry geometry;
  unsigned threads = 1;                // programs' threads a node
  CoreConfig core;                     // `self` and `cluster_size` are filled in
  std::vector<std::uint64_t> budgets;  // frames of each node; empty: core.budget_frames for all
  // Containers 1 .. files are files; the home of the first is node `home`, and so on.
  unsigned files = 0;
  unsigned home = 0;

  [[nodiscard]] NodeId home_of(ContainerId id) const {
    return id.value() > files
               ? kNoNode
               : NodeId{static_cast<std::uint16_t>((home + id.value() - 1) % geometry.nodes)};
  }
};

// One thing that happens. Which fields count depends on the kind (scenario.h has the text form).
struct WorldEvent {
  enum class Kind : std::uint8_t {
    kRead,         // node, thread, pages, ahead
    kWrite,        // node, thread, pages, ahead
    kRetry,        // node, thread: it woke up
    kDeliver,      // from, node: the oldest packet of the link
    kIo,           // node, index, ok: the I/O linker finishes
    kHoldExpired,  // node, pages
    kFlush,        // node, pages
    kExpire,       // node, pages: programs have waited too long
    kLeave,        // node: hand everything over
    kCrash,        // node
    kCut,          // from, node: what was on its way on a link that is lost never arrives
    kRestart,      // node: empty again
    kPropose,      // membership decides on the next view
    kView,         // node, index: it learns of that view
    kRemove,       // node, container (pages.container): the container is gone
    kDisconnect,   // from, node: their connection is lost; the cluster will go on without `node`
    kFence,        // node: cut off, it learns so and ends
    kWriteBack,    // node, pages: the home of a file wants them written
    kDiscard,      // node, pages: the home of a file wants nobody to have them
    kSync,  // node, pages.container: its home syncs the file; index 1: lists what is in memory
  };
  Kind kind = Kind::kRead;
  NodeId node{0};
  NodeId from{0};
  unsigned thread = 0;
  unsigned index = 0;
  PageSet pages{};
  std::uint64_t ahead = 0;
  bool ok = true;
  friend bool operator==(const WorldEvent&, const WorldEvent&) = default;
};

class World {
 public:
  // All nodes are up, know the containers, and have no view.
  explicit World(const WorldConfig& config);
  // Gives everyone the first view and delivers until all of them serve.
  void start();

  // Performs the event and checks the invariants. The event must be enabled.
  void apply(const WorldEvent& event);
  // Why the event cannot happen now, or empty.
  [[nodiscard]] std::string refuses(const WorldEvent& event) const;
  // What the last event did at the node where it happened.
  [[nodiscard]] const Effects& effects() const { return fx_; }
  // The first broken invariant, or empty; later events are of no use.
  [[nodiscard]] const std::string& violation() const { return violation_; }

  [[nodiscard]] const WorldConfig& config() const { return config_; }
  [[nodiscard]] const NodeModel& node(NodeId id) const { return nodes_[id.value()]; }
  [[nodiscard]] const ViewOracle& oracle() const { return oracle_; }
  // What programs read and wrote, in the order in which it happened.
  [[nodiscard]] const History& history() const { return history_; }
  // Whether that is sequentially consistent over all pages at once; empty if so.
  [[nodiscard]] std::string check_history() const;
  [[nodiscard]] const std::deque<Packet>& link(NodeId from, NodeId to) const {
    return links_[from.value() * config_.geometry.nodes + to.value()];
  }
  // The value of the last write to the page, 0 before the first.
  [[nodiscard]] Value current(unsigned page) const { return current_[page]; }
  [[nodiscard]] bool may_be_lost(unsigned page) const { return may_be_lost_[page] != 0; }
  [[nodiscard]] bool removed(ContainerId id) const { return removed_[id.value()] != 0; }
  // No packet, I/O, hold or runnable thread anywhere, and membership is settled.
  [[nodiscard]] bool is_quiet() const;
  // For a quiet cluster: nobody waits, and the directory agrees with the nodes. Empty if so.
  [[nodiscard]] std::string check_rest() const;
  // Pages that a node knows of, waiting threads, packets; of `pages` only if given.
  [[nodiscard]] std::string describe(const std::vector<unsigned>* pages = nullptr) const;
  // The pages that the event is about.
  [[nodiscard]] std::vector<unsigned> concerned(const WorldEvent& event) const;
  [[nodiscard]] std::string describe(const WorldEvent& event) const;

 private:
  std::deque<Packet>& link_of(NodeId from, NodeId to) {
    return links_[from.value() * config_.geometry.nodes + to.value()];
  }
  void fail(std::string text);
  void perform(const WorldEvent& event);
  void crash(NodeId node);
  void boot(NodeId node);
  [[nodiscard]] bool others_stay(NodeId node) const;
  [[nodiscard]] bool may_lose_link(NodeId node) const;  // up, and it means to stay
  void settle_effects(NodeId node);
  void settle_access(NodeId node, const Effects::Done& done);
  void settle_refusal(NodeId node, const Effects::Refused& refused);
  void note_losses();
  void check_page(unsigned page);
  [[nodiscard]] bool may_be_stale(NodeId node, unsigned page) const;
  [[nodiscard]] bool exists(unsigned page) const;
  [[nodiscard]] bool in_memory(unsigned page) const;
  // world_files.cc
  [[nodiscard]] NodeId home_of(unsigned page) const;
  [[nodiscard]] Value on_disk(unsigned page) const;
  void note_doubts();
  [[nodiscard]] bool both_died(unsigned page, unsigned since = 0) const;  // a view's number
  [[nodiscard]] bool outlived(NodeId node, unsigned page) const;
  void end_of(NodeId node);
  void ask_write_back(const PageSet& pages);
  void settle_job(NodeId node, const Effects::Job& job);
  void settle_discard(NodeId node, unsigned page);
  void note_write(NodeId node, unsigned page, Value value);
  [[nodiscard]] bool forgotten(unsigned page) const;
  void roll_back(unsigned page, Value value);
  void ask_sync(ContainerId id, bool list);
  void settle_sync(NodeId node, const Effects::Synced& sync);
  void note_gone(unsigned page);

  WorldConfig config_;
  std::vector<NodeModel> nodes_;
  std::vector<std::deque<Packet>> links_;
  ViewOracle oracle_;
  std::vector<Value> current_;
  std::vector<unsigned> written_in_;       // the number of the view its last writer was in
  std::vector<std::uint8_t> may_be_lost_;  // no survivor held it when a node died
  std::vector<std::uint8_t> rolled_back_;  // the file counted after the end of its home
  std::vector<std::uint8_t> ended_;        // its last write may have ended with the home of its file
  std::vector<std::uint8_t> foreign_;      // others than the home wrote what the file has not
  std::vector<std::set<NodeId>> seen_by_;  // nodes whose programs know what the file has not
  std::vector<std::uint8_t> revived_;      // it has a new life in its file
  std::vector<std::uint8_t> doubt_;        // cores may not know that the file has it
  std::vector<std::uint8_t> discarding_;   // since it was asked for: copies go, the last one, too
  std::vector<std::vector<Value>> asked_;  // by WriteBack under way: the last write when it began
  std::vector<Value> synced_;  // what a sync under way has to bring to the disk, or a newer value
  std::vector<unsigned> synced_since_;  // the views that there were then
  std::vector<std::uint8_t> to_list_;   // a sync that lists has to find it: it is in memory since
  std::vector<std::uint8_t> removed_;      // by container: some node was told it is gone
  Value last_write_ = 0;
  bool crashed_ = false;
  bool failed_io_ = false;
  History history_;
  bool away_ = false;  // some node has been, and with it the files of which it is the home
  Effects fx_;
  std::string violation_;
};

// Lets everything under way end, in a fixed order: packets, I/O, holds, views, programs. Returns
// what is wrong once nothing moves (check_rest), or that it never comes to that.
std::string settle(World& world);
// The next event of settle(), or nothing.
std::optional<WorldEvent> next_move(const World& world);

// Kinds by name, as scenarios spell them.
const char* name_of(WorldEvent::Kind kind);
std::optional<WorldEvent::Kind> kind_named(const std::string& name);

}  // namespace gob::sim
