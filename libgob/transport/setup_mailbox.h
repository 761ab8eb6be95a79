// What other threads tell the set-up thread of the TCP transport, and what it tells them. Internal
// to the TCP transport; safe from any thread.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <variant>
#include <vector>

#include "libgob/base/ids.h"
#include "libgob/base/unique_fd.h"
#include "libgob/transport/link_gate.h"
#include "libgob/transport/transport.h"

namespace gob {

struct Disconnect {
  NodeId peer;
  std::string detail;
};
struct Allow {
  NodeId peer;
};
struct StopSetup {};
using SetupCommand = std::variant<LinkBreak, Disconnect, Allow, StopSetup>;

// At most one command of a kind for each peer waits at a time: a later one takes the place of an
// earlier one, at the end of the line.
class SetupMailbox final : public LinkObserver {
 public:
  // `event` is an eventfd.
  explicit SetupMailbox(UniqueFd event) : event_(std::move(event)) {}

  void post(SetupCommand command);
  void on_link_broken(LinkBreak link_break) override { post(std::move(link_break)); }

  // Set-up thread.
  [[nodiscard]] int fd() const { return event_.get(); }
  [[nodiscard]] std::vector<SetupCommand> take();

 private:
  const UniqueFd event_;
  std::mutex mutex_;
  std::vector<SetupCommand> commands_;  // under mutex_
};

// The latest status of every peer.
class StatusBoard {
 public:
  explicit StatusBoard(std::size_t nodes) : peers_(nodes) {}

  // Returns the state before.
  PeerState set(NodeId peer, PeerStatus status);
  [[nodiscard]] PeerStatus get(NodeId peer) const;

 private:
  mutable std::mutex mutex_;
  std::vector<PeerStatus> peers_;  // under mutex_
};

}  // namespace gob
