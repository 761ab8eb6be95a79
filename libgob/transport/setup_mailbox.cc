#include "libgob/transport/setup_mailbox.h"

#include <unistd.h>

#include <algorithm>
#include <optional>
#include <utility>

namespace gob {
namespace {

std::optional<NodeId> peer_of(const SetupCommand& command) {
  return std::visit(
      [](const auto& c) -> std::optional<NodeId> {
        if constexpr (requires { c.peer; }) {
          return c.peer;
        } else {
          return std::nullopt;
        }
      },
      command);
}

}  // namespace

void SetupMailbox::post(SetupCommand command) {
  const std::lock_guard lock(mutex_);
  std::erase_if(commands_, [&](const SetupCommand& other) {
    if (other.index() != command.index() || peer_of(other) != peer_of(command)) return false;
    const auto* a = std::get_if<LinkBreak>(&other);
    const auto* b = std::get_if<LinkBreak>(&command);
    // Breaks of different incarnations are different news; there are as many as channels at most.
    return a == nullptr || b == nullptr || a->incarnation == b->incarnation;
  });
  commands_.push_back(std::move(command));
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(event_.get(), &one, sizeof one);
}

std::vector<SetupCommand> SetupMailbox::take() {
  const std::lock_guard lock(mutex_);
  std::uint64_t count = 0;
  [[maybe_unused]] const auto bytes = ::read(event_.get(), &count, sizeof count);
  return std::exchange(commands_, {});
}

PeerState StatusBoard::set(NodeId peer, PeerStatus status) {
  const std::lock_guard lock(mutex_);
  return std::exchange(peers_[peer.value()], std::move(status)).state;
}

PeerStatus StatusBoard::get(NodeId peer) const {
  const std::lock_guard lock(mutex_);
  if (peer.value() < peers_.size()) return peers_[peer.value()];
  return {PeerState::kUnreachable, 0, "no such node is configured"};
}

}  // namespace gob
