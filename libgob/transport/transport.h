// Transport: who is reachable, and the channels to them. Set-up (connect, accept, handshake) runs
// on a thread of the transport's own; the data path is in the channels. All calls here may come
// from any thread.
//
// The links to a peer, one for each channel, come up together and go down together. A link that
// broke is never resumed: that incarnation of the peer is refused until allow() is called or the
// peer comes back with a new incarnation, which also replaces an old one that still seems alive.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "libgob/base/ids.h"
#include "libgob/base/result.h"
#include "libgob/transport/channel.h"

namespace gob {

inline constexpr std::uint8_t kControlChannel = 255;
inline constexpr unsigned kMaxShards = 64;

// Where a node listens for its peers.
struct PeerAddress {
  NodeId node;
  std::string host;
  std::uint16_t port = 0;
};

enum class PeerState : std::uint8_t {
  kConnecting,   // not known yet, or somebody listens there but no link is up
  kConnected,    // links are up
  kRefused,      // the peer's kernel answers that nobody listens: its gobd is not running
  kUnreachable,  // no answer, no route, no such host, or a firewall in between
};

[[nodiscard]] const char* to_string(PeerState state);

struct PeerStatus {
  PeerState state = PeerState::kConnecting;
  std::uint64_t incarnation = 0;  // of the links that are up, else 0
  std::string detail;             // why it is so, for people
};

class Transport {
 public:
  // Ends set-up. Links that are up stay up until their channel is destroyed; but destroy the
  // channels first, since a peer that loses its link to a node that no longer listens takes it for
  // dead.
  virtual ~Transport() = default;

  // Channel `number`: 0 ... shards - 1, or kControlChannel. Each can be taken once. Links that come
  // up before it is taken wait for it.
  [[nodiscard]] virtual Result<std::unique_ptr<Channel>> channel(std::uint8_t number) = 0;

  // Looked at anew after every break, and again and again while the peer is not connected: a
  // kRefused here was seen after the latest on_down.
  [[nodiscard]] virtual PeerStatus status(NodeId peer) const = 0;

  // Breaks the links to a peer on all channels (kLocal). That incarnation is refused from then on.
  virtual void disconnect(NodeId peer, const std::string& detail) = 0;

  // Forgets which incarnations of the peer are refused: only for a peer that shares no view with
  // us.
  virtual void allow(NodeId peer) = 0;

  // This process's own number among the restarts of its node; never 0.
  [[nodiscard]] virtual std::uint64_t incarnation() const = 0;

  [[nodiscard]] virtual const char* name() const = 0;  // "tcp", "memory"

  // Which RDMA device the channels use, if any.
  [[nodiscard]] virtual RdmaInfo rdma() const { return {}; }
};

}  // namespace gob
