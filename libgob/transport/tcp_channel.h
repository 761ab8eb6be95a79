// The data path over TCP. One receive call takes a message that has arrived, one gathering send
// passes a message on without a copy of ours; system calls beyond these are made only when sockets
// are full or links change. Owned by one thread, like any Channel.
#pragma once

#include <deque>
#include <memory>
#include <variant>
#include <vector>

#include "libgob/transport/channel.h"
#include "libgob/transport/link_gate.h"
#include "libgob/transport/receive_buffer.h"
#include "libgob/transport/send_queue.h"

namespace gob {

struct TcpChannelConfig {
  std::size_t nodes = 0;             // configured; peers are below
  std::size_t max_payload = 0;       // of one message
  std::size_t max_queued_bytes = 0;  // for one peer
};

class TcpChannel final : public Channel {
 public:
  static Result<std::unique_ptr<Channel>> open(TcpChannelConfig config,
                                               std::shared_ptr<LinkGate> gate,
                                               std::shared_ptr<LinkObserver> observer);
  ~TcpChannel() override;

  [[nodiscard]] int fd() const override { return epoll_.get(); }
  Status send(NodeId to, std::span<const std::byte> header,
              std::span<const iovec> payload) override;
  std::size_t poll(ChannelSink& sink) override;
  void drop(NodeId peer, DownReason reason, const std::string& detail) override;
  void cork() override { ++corked_; }
  void uncork() override;
  [[nodiscard]] PeerCounters counters(NodeId peer) const override;
  [[nodiscard]] std::size_t queued_bytes(NodeId peer) const override;

 private:
  struct Link {
    explicit Link(std::size_t max_payload) : in(max_payload) {}
    NodeId peer;
    std::uint64_t incarnation = 0;
    UniqueFd socket;
    ReceiveBuffer in;
    SendQueue out;
    bool watching_output = false;  // the socket is full: epoll tells when it is not
    bool held_back = false;        // `out` waits for uncork() only
    bool revisit = false;          // is in revisit_
    bool broken = false;           // on its way to the graveyard; touch nothing
    // The link is lost for output, but what the peer sent before may still be in the socket.
    bool draining = false;
    unsigned drained_reads = 0;
    DownReason reason = DownReason::kClosed;
    std::string detail;
  };
  struct Up {
    NodeId peer;
    std::uint64_t incarnation;
  };
  using Notice = std::variant<Up, LinkBreak>;

  TcpChannel(TcpChannelConfig config, std::shared_ptr<LinkGate> gate,
             std::shared_ptr<LinkObserver> observer, UniqueFd epoll);

  void adopt();
  void attach(NewLink link);
  void notify(ChannelSink& sink);
  void pump(Link& link, ChannelSink& sink, std::size_t& budget);
  void deliver(Link& link, ChannelSink& sink, std::size_t& budget);
  // Writes what waits and then `fresh`; keeps the rest. False if the link can take no more.
  bool transmit(Link& link, std::span<iovec> fresh);
  bool keep(Link& link, std::span<const iovec> parts, std::size_t skip);
  void watch_output(Link& link, bool on);
  void revisit(Link& link);
  void begin_drain(Link& link, DownReason reason, std::string detail);
  void break_link(Link& link, DownReason reason, std::string detail, bool report);
  [[nodiscard]] Link* find(NodeId peer) const;
  [[nodiscard]] Error not_sent(NodeId to, const Link* link) const;

  // Constant.
  const TcpChannelConfig config_;
  const std::shared_ptr<LinkGate> gate_;
  const std::shared_ptr<LinkObserver> observer_;
  const UniqueFd epoll_;

  std::vector<std::unique_ptr<Link>> links_;  // by node; null: not up
  std::vector<Link*> active_;                 // those that are up
  std::vector<Link*> visiting_;               // poll()'s own list, while it runs
  std::vector<Link*> revisit_;                // want the next poll() whatever epoll says
  std::vector<std::unique_ptr<Link>>
      graveyard_;                  // broken during this poll(): may still be on the stack
  std::deque<Notice> notices_;     // for the sink, in order
  std::vector<NodeId> held_back_;  // peers with output that waits for uncork()
  unsigned corked_ = 0;
  std::size_t turn_ = 0;  // where poll() starts, so that no peer is always first
  std::vector<PeerCounters> counters_;
};

}  // namespace gob
