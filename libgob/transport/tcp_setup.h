// The set-up thread of the TCP transport: listens, connects, shakes hands, and hands the links of a
// peer to the channels' gates once there is one for every channel. Keeps trying, in growing
// intervals, while a peer is not connected; of a pair, the higher node id makes the connections,
// and the lower one only probes whether somebody listens, for the status board. Everything below
// start() runs on that thread.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "libgob/base/unique_fd.h"
#include "libgob/transport/handshake.h"
#include "libgob/transport/link_gate.h"
#include "libgob/transport/refused_incarnations.h"
#include "libgob/transport/setup_mailbox.h"
#include "libgob/transport/socket.h"
#include "libgob/transport/tcp_transport.h"
#include "libgob/transport/verbs_device.h"

namespace gob {

using LinkGates = std::map<std::uint8_t, std::shared_ptr<LinkGate>>;  // by channel; control is last

class TcpSetup {
 public:
  static Result<std::unique_ptr<TcpSetup>> start(const TcpConfig& config, UniqueFd listener,
                                                 LinkGates gates,
                                                 std::shared_ptr<SetupMailbox> mailbox,
                                                 std::shared_ptr<StatusBoard> board,
                                                 std::shared_ptr<VerbsDevice> device);
  ~TcpSetup();

 private:
  using Clock = std::chrono::steady_clock;
  using HalfId = std::uint64_t;

  // A connection on its way to become a link.
  struct Half {
    enum class Stage : std::uint8_t {
      kConnecting,    // ours, TCP not done
      kAwaitHello,    // theirs, nothing heard
      kAwaitReply,    // ours, our hello sent
      kAwaitConfirm,  // theirs, our hello sent
    };
    Stage stage = Stage::kAwaitHello;
    bool ours = false;   // we connected
    bool probe = false;  // ours, and of no other use than to see who answers
    UniqueFd socket;
    SocketAddress address;
    Clock::time_point deadline;
    NodeId peer = kNoNode;          // ours, or once the hello was heard
    std::uint8_t channel = 0;       // likewise
    std::uint64_t incarnation = 0;  // the peer's, once heard
    bool offers_verbs = false;      // our hello says so
    bool verbs = false;             // the peer's does, too
    std::array<std::byte, kHelloBytes> in{};
    std::size_t in_bytes = 0;
  };

  struct ReadyLink {
    UniqueFd socket;
    bool verbs = false;
  };

  struct Peer {
    PeerAddress address;
    std::string name;  // for the log
    RefusedIncarnations refused;
    std::uint64_t current = 0;  // incarnation whose links the channels have; 0: none
    // Links that wait until there is one for every channel.
    std::uint64_t pending = 0;  // their incarnation
    std::map<std::uint8_t, ReadyLink> ready;
    Clock::time_point pending_deadline;
    // Attempts of ours: a round tries every address of the host in turn.
    std::vector<SocketAddress> addresses;
    std::size_t next_address = 0;
    bool round_refused = true;  // so far in this round the host itself refused
    bool trying = false;        // a connection of ours is under way
    Clock::time_point next_try;
    std::chrono::milliseconds backoff{};
  };

  TcpSetup(const TcpConfig& config, UniqueFd listener, LinkGates gates,
           std::shared_ptr<SetupMailbox> mailbox, std::shared_ptr<StatusBoard> board,
           UniqueFd epoll, std::shared_ptr<VerbsDevice> device);

  // tcp_setup.cc: the loop
  void run();
  [[nodiscard]] bool obey();  // false: stop
  [[nodiscard]] int wait_ms() const;
  void check_deadlines();
  void watch_listener(bool on);
  void look_at_device();
  void accept_some();
  Half* add_half(Half half, std::uint32_t events);
  void remove_half(HalfId id);
  void warn_once(const std::string& key, const std::string& text);

  // tcp_setup_handshake.cc: one connection until it is a link
  void on_half(HalfId id);
  void on_connected(HalfId id, Half& half);
  void on_hello_bytes(HalfId id, Half& half);
  void on_hello(HalfId id, Half& half, const Hello& hello);
  [[nodiscard]] HelloFault judge(const Half& half, const Hello& hello) const;
  [[nodiscard]] bool say(Half& half, HelloKind kind, HelloFault reason = HelloFault::kNone);
  void refuse(HalfId id, Half& half, HelloFault fault, const Hello& hello);
  void give_up(HalfId id, const std::string& why);

  // tcp_setup_peers.cc: peers and their links
  void try_peer(Peer& peer);
  void connect(Peer& peer, std::uint8_t channel);
  void connect_failed(Peer& peer, const ConnectOutcome& outcome);
  void next_round(Peer& peer);
  void abandon(Peer& peer);
  void joined(Peer& peer, std::uint8_t channel, std::uint64_t incarnation, ReadyLink link);
  void hand_over(Peer& peer);
  void on_break(const LinkBreak& link_break);
  void set_status(Peer& peer, PeerState state, const std::string& detail);
  [[nodiscard]] bool calls(const Peer& peer) const { return peer.address.node < config_.self; }
  [[nodiscard]] bool is_self(const Peer& peer) const { return peer.address.node == config_.self; }

  const TcpConfig config_;
  const HelloRules rules_;
  const LinkGates gates_;
  const std::shared_ptr<SetupMailbox> mailbox_;
  const std::shared_ptr<StatusBoard> board_;
  const UniqueFd epoll_;
  const UniqueFd listener_;

  std::shared_ptr<VerbsDevice> device_;  // null: none, or lost
  std::vector<Peer> peers_;              // by node, self unused
  std::unordered_map<HalfId, Half> halves_;
  HalfId next_half_;
  std::size_t half_open_ = 0;  // accepted ones among halves_
  bool listening_ = false;
  Clock::time_point accept_again_{};  // after the system ran out of descriptors
  std::set<std::string> warned_;      // bounded
  std::thread thread_;
};

}  // namespace gob
