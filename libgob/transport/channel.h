// Channel: messages between one thread of this node and the thread of the same number on each peer.
// One thread owns a channel and makes every call; only the transport behind it has other threads.
//
// Order: messages of one peer arrive in the order of its send() calls, with their payload complete.
// Each on_up is followed by exactly one on_down, with every message of that link in between.
// Nothing a peer sent over a broken link appears after on_down: messages may be lost at the end of
// a link, never in its middle.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "libgob/base/ids.h"
#include "libgob/base/result.h"
#include "libgob/transport/path_info.h"

namespace gob {

enum class DownReason : std::uint8_t {
  kClosed,    // the peer's kernel closed the connection: the process ended or let go
  kReset,     // the peer's kernel reset it, or a new incarnation of the peer took its place
  kTimedOut,  // silence for longer than the peer timeout, or the network says unreachable
  kProtocol,  // the peer sent what no correct peer sends
  kLocal,  // this node let go: drop(), disconnect(), or the peer was too slow to take its messages
};

[[nodiscard]] const char* to_string(DownReason reason);

// What poll() calls, on the owner's thread. A callback may send(), drop(), cork() and uncork(), not
// poll().
class ChannelSink {
 public:
  virtual ~ChannelSink() = default;
  virtual void on_up(NodeId peer, std::uint64_t incarnation) = 0;
  // The spans are valid during the call only.
  virtual void on_message(NodeId from, std::span<const std::byte> header,
                          std::span<const std::byte> payload) = 0;
  virtual void on_down(NodeId peer, DownReason reason, const std::string& detail) = 0;
};

struct PeerCounters {
  std::uint64_t messages_in = 0;
  std::uint64_t messages_out = 0;
  std::uint64_t bytes_in = 0;  // of messages, framing included
  std::uint64_t bytes_out = 0;
};

class Channel {
 public:
  virtual ~Channel() = default;  // closes the channel's links: the peers see kClosed

  // Readable when poll() has work; give it to poll(2) or epoll (level-triggered). Constant.
  [[nodiscard]] virtual int fd() const = 0;

  // Takes a message: when it returns, the bytes are with the kernel or copied into the peer's
  // bounded queue. Never blocks. The header has at most wire::kMaxHeaderBytes, the payload at most
  // wire::kMaxPagePayloadBytes on shards and wire::kMaxControlPayloadBytes on control, in at most
  // kMaxPayloadParts parts. Fails with kUnavailable if the peer is not up or its queue is full,
  // which also drops it (kLocal); on_down then follows from poll().
  virtual Status send(NodeId to, std::span<const std::byte> header,
                      std::span<const iovec> payload) = 0;
  static constexpr std::size_t kMaxPayloadParts = 64;

  // Delivers what arrived, writes what was queued. Never blocks; its work is bounded, and fd()
  // stays readable while there is more. Returns the number of messages delivered.
  virtual std::size_t poll(ChannelSink& sink) = 0;

  // Breaks the link to a peer on every channel of the transport; on_down follows from poll(), here
  // with this reason, on the others with this or the peer's answer to it. No effect if it is not
  // up.
  virtual void drop(NodeId peer, DownReason reason, const std::string& detail) = 0;

  // Between cork() and the matching uncork(), messages without payload are held back, to leave with
  // the next payload to the same peer or at uncork(), many in one system call. Calls may nest.
  virtual void cork() = 0;
  virtual void uncork() = 0;

  // Since the channel was made, over all links to the peer.
  [[nodiscard]] virtual PeerCounters counters(NodeId peer) const = 0;
  // Bytes that wait here because the peer's socket is full.
  [[nodiscard]] virtual std::size_t queued_bytes(NodeId peer) const = 0;
  // How the peer is reached now. Not for the data path: asks the device.
  [[nodiscard]] virtual PathInfo path(NodeId peer) const = 0;
};

// Corks a channel for a scope.
class Corked {
 public:
  explicit Corked(Channel& channel) : channel_(channel) { channel_.cork(); }
  ~Corked() { channel_.uncork(); }
  Corked(const Corked&) = delete;
  Corked& operator=(const Corked&) = delete;

 private:
  Channel& channel_;
};

}  // namespace gob
