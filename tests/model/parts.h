// The parts a cluster's state is made of, each interned: nodes, links, membership. Steps of the
// real core are taken once for each different node state and event, then looked up. Values are
// renamed so that states that differ only in which write they name are one: 0 is zeros, 1 the last
// write, 2 anything older. Single-threaded.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "tests/model/intern.h"
#include "tests/sim/hash.h"
#include "tests/sim/host_model.h"
#include "tests/sim/view_oracle.h"
#include "tests/sim/world.h"

namespace gob::model {

using PageMask = std::uint32_t;  // by dense page index

// What the global checks need of a node state.
struct NodeFacts {
  PageMask readable = 0;
  PageMask writable = 0;
  PageMask present = 0;
  PageMask keeps_last = 0;  // frame or swap slot with value 1
  PageMask names_last = 0;  // the same, or a file
  PageMask not_zero = 0;    // readable, value not 0
  PageMask not_last = 0;    // readable, value not 1
  PageMask held = 0;
  PageMask blocked = 0;    // pages that threads wait for
  std::uint8_t idle = 0;   // threads, by bit
  std::uint8_t woken = 0;  // threads, by bit
  std::uint8_t io = 0;     // number under way
  PageMask in_memory = 0;  // present, or being read
  bool syncing = false;
  bool leaving = false;
};

// What a node did in one step.
struct NodeStep {
  std::uint32_t node = 0;  // its state afterwards
  struct Sent {
    std::uint16_t to;
    std::uint32_t packet;
  };
  std::vector<Sent> sent;
  PageMask wrote = 0;
  PageMask discarded = 0;  // and no other job is under way
  PageMask read = 0;
  PageMask read_not_zero = 0;
  PageMask read_not_last = 0;
  PageMask refused_lost = 0;
  PageMask refused_io = 0;
  bool synced = false;  // a sync was answered without an error
  bool sync_failed = false;
  bool listed = false;  // one that only lists ended, and found:
  PageMask list = 0;
  PageMask not_in_file = 0;  // said to be written back, but the file has not the last write
  bool serving = false;
  bool left = false;
  std::string broken;
};

struct LinkFacts {
  std::uint32_t head = 0;  // packet
  std::uint32_t rest = 0;  // link without it
  PageMask carries_last = 0;
  PageMask carries = 0;  // bytes of any age
};

class Parts {
 public:
  // `fold_hints`: hints of free frames that no core takes an interest in are all the same. Not for
  // clusters that nodes leave: whoever leaves asks everyone.
  Parts(const sim::WorldConfig& config, bool fold_hints);

  // Nodes. `event` names the step as in World; deliveries take the packet, views their number.
  std::uint32_t put_node(sim::NodeModel node);
  const NodeStep& step(std::uint32_t node, const sim::WorldEvent& event, std::uint32_t packet,
                       std::uint32_t oracle);
  // Another node wrote the pages: what is called the last write here is older now.
  std::uint32_t outdate_node(std::uint32_t node, PageMask pages);
  [[nodiscard]] const sim::NodeModel& node(std::uint32_t id) const { return nodes_[id]; }
  [[nodiscard]] const NodeFacts& facts(std::uint32_t node) const { return node_facts_[node]; }
  [[nodiscard]] std::size_t node_states() const { return nodes_.size(); }

  // Links; 0 is the empty one.
  std::uint32_t append(std::uint32_t link, std::uint32_t packet);
  std::uint32_t outdate_link(std::uint32_t link, PageMask pages);
  [[nodiscard]] const LinkFacts& link(std::uint32_t id) const { return link_facts_[id]; }
  [[nodiscard]] const sim::Packet& packet(std::uint32_t id) const { return packets_[id]; }
  [[nodiscard]] std::size_t link_states() const { return links_.size(); }

  // What some core was made to do, by name: messages that arrived (with their answer where there
  // are two), I/O, refusals, and view changes that lost a node.
  [[nodiscard]] const std::set<std::string>& seen() const { return seen_; }

  // Membership.
  std::uint32_t put_oracle(sim::ViewOracle oracle) { return oracles_.put(std::move(oracle)).id; }
  [[nodiscard]] const sim::ViewOracle& oracle(std::uint32_t id) const { return oracles_[id]; }

  [[nodiscard]] PageMask mask_of(PageSet pages) const;
  [[nodiscard]] PageSet set_of(unsigned page) const {
    return PageSet::of(config_.geometry.page(page));
  }

 private:
  struct NodeHash {
    std::uint64_t operator()(const sim::NodeModel& node) const { return node.hash(); }
  };
  struct PacketHash {
    std::uint64_t operator()(const sim::Packet& packet) const {
      sim::Hash hash;
      add(hash, packet);
      return hash.value();
    }
  };
  struct LinkHash {
    std::uint64_t operator()(const std::vector<std::uint32_t>& link) const {
      sim::Hash hash;
      for (const std::uint32_t packet : link) hash.add(packet);
      return hash.value();
    }
  };
  struct OracleHash {
    std::uint64_t operator()(const sim::ViewOracle& oracle) const { return oracle.hash(); }
  };

  void note_seen(const sim::WorldEvent& event, std::uint32_t packet, std::uint32_t oracle,
                 const sim::NodeModel& before, const sim::Effects& fx);
  NodeStep take_step(std::uint32_t node, const sim::WorldEvent& event, std::uint32_t packet,
                     std::uint32_t oracle);
  void rename_written(PageMask wrote, sim::NodeModel& node, sim::Effects& fx) const;
  std::uint32_t put_link(std::vector<std::uint32_t> link);
  NodeFacts facts_of(const sim::NodeModel& node) const;
  void outdate(sim::Packet& packet, unsigned page, sim::Value from, sim::Value to) const;

  sim::WorldConfig config_;
  bool fold_hints_;
  Interner<sim::NodeModel, NodeHash> nodes_;
  std::vector<NodeFacts> node_facts_;
  std::deque<NodeStep> steps_;
  Memo step_memo_;
  Memo outdate_node_memo_;
  Interner<sim::Packet, PacketHash> packets_;
  Interner<std::vector<std::uint32_t>, LinkHash> links_;
  std::vector<LinkFacts> link_facts_;
  Memo append_memo_;
  Memo outdate_link_memo_;
  Interner<sim::ViewOracle, OracleHash> oracles_;
  std::set<std::string> seen_;
};

}  // namespace gob::model
