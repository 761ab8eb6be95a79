// The data path to peers: over TCP, or, where both ends of a link can, over RDMA with the link's
// TCP connection beside it, which tells of the peer's end and takes over if RDMA fails.
//
// Over TCP, one receive call takes a message that has arrived, one gathering send passes a message
// on without a copy of ours; system calls beyond these are made only when sockets are full or links
// change. Over RDMA, messages come and go without system calls of ours; fd() stays readable for a
// while after traffic, as long as waiting so has paid lately (tcp_channel_verbs.cc).
// Owned by one thread, like any Channel.
#pragma once

#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <unordered_map>
#include <variant>
#include <vector>

#include "libgob/transport/answer_watch.h"
#include "libgob/transport/channel.h"
#include "libgob/transport/link_gate.h"
#include "libgob/transport/receive_buffer.h"
#include "libgob/transport/send_queue.h"
#include "libgob/transport/verbs_record.h"

namespace gob {

class VerbsDevice;
class VerbsLink;
class VerbsQueue;

struct TcpChannelConfig {
  std::size_t nodes = 0;                    // configured; peers are below
  std::size_t max_payload = 0;              // of one message
  std::size_t max_queued_bytes = 0;         // for one peer
  std::string no_verbs;                     // why this node has no RDMA device, if it has none
  std::chrono::microseconds verbs_poll{0};  // longest busy wait after traffic over RDMA
  // A peer whose kernel is silent for so long is down.
  std::chrono::milliseconds peer_timeout{2000};
};

class TcpChannel final : public Channel {
 public:
  static Result<std::unique_ptr<Channel>> open(TcpChannelConfig config,
                                               std::shared_ptr<LinkGate> gate,
                                               std::shared_ptr<LinkObserver> observer,
                                               std::shared_ptr<VerbsDevice> device);
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
  [[nodiscard]] PathInfo path(NodeId peer) const override;

 private:
  using Clock = std::chrono::steady_clock;

  // Where one direction of a link's messages goes.
  enum class Way : std::uint8_t {
    kTcp,
    kAgreeing,  // not known yet: output waits, input is about RDMA
    kVerbs,
    kReplay,  // input only: the peer goes on over TCP, behind what RDMA has brought so far
  };
  struct Link {
    Link(std::size_t max_payload, std::chrono::milliseconds peer_timeout);
    ~Link();
    NodeId peer;
    std::uint64_t incarnation = 0;
    UniqueFd socket;
    AnswerWatch answers;
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

    Way out_way = Way::kTcp;
    Way in_way = Way::kTcp;
    bool announced = false;  // the sink hears that it is up
    std::unique_ptr<VerbsLink> verbs;
    std::string why_tcp;
    unsigned records = 0;           // heard while agreeing
    bool ready = false;             // we said so
    bool has_chunks = false;        // is in chunked_
    std::uint64_t frames_in = 0;    // delivered since RDMA was agreed on
    std::uint64_t replay_from = 0;  // number of the first frame after the peer's fall-back
    std::uint64_t skip = 0;         // so many frames on TCP came over RDMA already
  };
  struct Up {
    NodeId peer;
    std::uint64_t incarnation;
  };
  using Notice = std::variant<Up, LinkBreak>;

  TcpChannel(TcpChannelConfig config, std::shared_ptr<LinkGate> gate,
             std::shared_ptr<LinkObserver> observer, std::shared_ptr<VerbsDevice> device,
             UniqueFd epoll, UniqueFd busy, UniqueFd silence_timer);

  // tcp_channel.cc: output, and the turn of poll()
  bool send_frame(Link& link, std::span<iovec> fresh, std::size_t bytes, bool hold);
  void hold_back(Link& link);
  void choose_visits(bool look);

  // tcp_channel_input.cc
  void pump(Link& link, ChannelSink& sink, std::size_t& budget);
  void receive_end(Link& link, ChannelSink& sink, std::size_t& budget);
  void deliver(Link& link, ChannelSink& sink, std::size_t& budget);
  void deliver_chunks(Link& link, ChannelSink& sink, std::size_t& budget);
  void deliver_frame(Link& link, ChannelSink& sink, std::span<const std::byte> header,
                     std::span<const std::byte> payload);
  [[nodiscard]] bool join_ways(Link& link);

  // tcp_channel_links.cc
  void adopt();
  void attach(NewLink link);
  void notify(ChannelSink& sink);
  void announce(Link& link);
  // Writes what waits and then `fresh`; keeps the rest. False if the link can take no more.
  bool transmit(Link& link, std::span<iovec> fresh);
  bool keep(Link& link, std::span<const iovec> parts, std::size_t skip);
  void watch_output(Link& link, bool on);
  void revisit(Link& link);
  // Ends the links whose other end's kernel is silent, if it is time to look for them.
  void watch_silence();
  void begin_drain(Link& link, DownReason reason, std::string detail);
  void break_link(Link& link, DownReason reason, std::string detail, bool report);
  [[nodiscard]] Link* find(NodeId peer) const;
  [[nodiscard]] Error not_sent(NodeId to, const Link* link) const;

  // tcp_channel_agree.cc: RDMA or TCP, and from one to the other
  void begin_agreeing(Link& link);
  bool say(Link& link, const VerbsRecord& record);
  void on_record(Link& link, const VerbsRecord& record);
  void settle(Link& link, bool verbs, const std::string& why_tcp);
  // `theirs`: the other end has done so.
  void fall_back(Link& link, const std::string& why, bool theirs = false);
  void on_fall_back(Link& link, const VerbsRecord& record);
  void leave_device();

  // tcp_channel_verbs.cc: completions, and when to wait how
  Status open_queue();
  bool collect();
  void advance(Link& link);
  void note_traffic();
  void be_busy(bool on);
  void rest(bool found);

  // Constant.
  const TcpChannelConfig config_;
  const std::shared_ptr<LinkGate> gate_;
  const std::shared_ptr<LinkObserver> observer_;
  const UniqueFd epoll_;
  const UniqueFd silence_timer_;  // makes fd() readable when it is time to look

  std::vector<std::unique_ptr<Link>> links_;  // by node; null: not up
  std::vector<Link*> active_;                 // those that are up
  std::vector<Link*> visiting_;               // poll()'s own list, while it runs
  std::vector<Link*> revisit_;                // want the next poll() whatever epoll says
  std::vector<std::unique_ptr<Link>>
      graveyard_;  // broken during this poll(): may still be on the stack
  Clock::time_point next_silence_look_ = Clock::time_point::max();
  std::deque<Notice> notices_;     // for the sink, in order
  std::vector<NodeId> held_back_;  // peers with output that waits for uncork()
  bool closing_ = false;
  unsigned corked_ = 0;
  std::size_t turn_ = 0;  // where poll() starts, so that no peer is always first
  std::vector<PeerCounters> counters_;

  std::shared_ptr<VerbsDevice> device_;  // null: none, or lost
  std::unique_ptr<VerbsQueue> queue_;    // made for the first link that needs it
  std::unordered_map<std::uint64_t, Link*> by_verbs_id_;
  std::uint64_t next_verbs_id_ = 1;
  std::size_t on_verbs_ = 0;    // links whose output goes there
  std::vector<Link*> chunked_;  // have chunks to deliver
  std::map<NodeId, std::uint64_t> fall_backs_;
  const UniqueFd busy_event_;  // readable while busy_
  bool busy_ = false;
  unsigned idle_turns_ = 0;                // while busy
  std::chrono::microseconds patience_{0};  // how long to be busy without traffic
  Clock::time_point last_traffic_;
  Clock::time_point last_look_;
};

}  // namespace gob
