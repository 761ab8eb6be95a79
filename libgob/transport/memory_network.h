// What the in-memory nodes of one hub share: who runs, which links are up, and every message that
// was sent and not delivered. Internal to the in-memory transport. All members may be called from
// any thread; one mutex guards everything.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "libgob/base/unique_fd.h"
#include "libgob/transport/memory_transport.h"
#include "libgob/transport/refused_incarnations.h"

namespace gob {

class MemoryHub::Network {
 public:
  struct UpNotice {
    std::uint64_t incarnation;
  };
  struct DownNotice {
    DownReason reason;
    std::string detail;
  };
  struct Letter {
    std::vector<std::byte> bytes;  // header, then payload
    std::size_t header_bytes;
  };
  struct Item {
    NodeId peer;
    std::variant<UpNotice, DownNotice, Letter> what;
  };

  explicit Network(const Config& config);

  Result<std::uint64_t> start(NodeId self, std::uint64_t incarnation);
  void stop_setup(NodeId self);
  // The descriptor that is readable while the channel has items.
  Result<int> take_channel(NodeId self, std::uint8_t number);
  void close_channel(NodeId self, std::uint8_t number);

  Status send(NodeId from, NodeId to, std::uint8_t number, Letter letter);
  std::optional<Item> next(NodeId self, std::uint8_t number);
  void drop(NodeId self, NodeId peer, DownReason reason, const std::string& detail);
  std::size_t queued_bytes(NodeId from, NodeId to, std::uint8_t number) const;

  PeerStatus status(NodeId self, NodeId peer) const;
  void allow(NodeId self, NodeId peer);
  void cut(NodeId a, NodeId b);
  void heal(NodeId a, NodeId b);
  [[nodiscard]] const Config& config() const { return config_; }

 private:
  struct Inbox {
    UniqueFd event;
    bool taken = false;
    bool closed = false;
    std::deque<Item> items;
    std::vector<std::size_t> queued_bytes;  // of letters, by sender
  };
  struct Peer {
    bool up = false;
    RefusedIncarnations refused;
  };
  struct Node {
    std::uint64_t incarnation = 0;
    bool setting_up = true;  // its Transport exists
    unsigned channels = 0;   // taken and not closed
    std::map<std::uint8_t, Inbox> inboxes;
    std::vector<Peer> peers;
  };

  // Callers hold mutex_.
  [[nodiscard]] Node* node(NodeId id) const;
  [[nodiscard]] bool is_cut(NodeId a, NodeId b) const;
  void connect_all();
  void push(Node& to, std::uint8_t number, Item item);
  void go_down(NodeId at, NodeId peer, const DownNotice& notice);
  void forget_letters(Node& at, NodeId from);
  void end_if_unused(NodeId self);

  const Config config_;
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<Node>> nodes_;  // null: not running
  std::set<std::pair<NodeId, NodeId>> cuts_;  // lower id first
  std::uint64_t last_incarnation_ = 0;
};

}  // namespace gob
