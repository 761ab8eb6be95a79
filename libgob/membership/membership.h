// Membership: who is in the cluster, as one totally ordered series of views. A pure state machine:
// no clock, thread or socket; the host gives it events and the time and performs its actions in
// order. The control thread owns it. Two live processes never install different views for the same
// epoch, and a group cut off from the rest stops (docs/MEMBERSHIP.md).
//
//   Membership m(config, hooks);
//   m.step(event, now_ms, actions);   // appends what the host must do
//   m.next_wakeup();                  // when to send Tick, if nothing else happens before
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "libgob/membership/membership_message.h"

namespace gob {

using TimeMs = std::uint64_t;  // monotonic, any origin

struct MembershipConfig {
  NodeId self;
  std::uint64_t incarnation = 0;   // random, not 0, another one for each run of the process
  std::size_t nodes = 1;           // configured; ids are 0 .. nodes - 1
  TimeMs form_timeout_ms = 5000;   // then a majority forms the first view without the rest
  TimeMs fence_timeout_ms = 5000;  // then a node that cannot get a new view it needs gives up
  // So much longer while it reaches a majority, which may be short of processors.
  TimeMs stall_timeout_ms = 0;
  TimeMs retry_ms = 100;           // step of back-off between rival proposers
};

// The container table, opaque here. `snapshot` returns it and freezes it until the next
// InstallView: nothing it acknowledges after that may be missing from the merged table.
struct MembershipHooks {
  std::function<std::string()> snapshot;
  std::function<std::string(const std::vector<std::string>&)> merge;
};

// How a link ended.
enum class LinkEnd : std::uint8_t {
  kSilence,      // a time-out: the process may live on behind a cut, and go on without this node
  kClosed,       // its end was closed or reset; it may or may not live
  kProcessDead,  // closed, and its host refuses connections
};

namespace membership {

// Every channel to the node is up; `incarnation` is what its handshake said.
struct PeerUp {
  NodeId node;
  std::uint64_t incarnation = 0;
};
struct PeerDown {
  NodeId node;
  LinkEnd end = LinkEnd::kSilence;
};
// Found later, while the link is down: its host refuses connections.
struct ProofOfDeath {
  NodeId node;
};
struct Deliver {
  NodeId from;
  MembershipMessage message;
};
struct Tick {};
// The core rebuilt its directory for this epoch (action::Serving of every shard).
struct Serving {
  Epoch epoch;
};
// The pages are handed over; leave in good order.
struct Leave {};
// No container is older than this epoch: older losses concern nobody.
struct Prune {
  Epoch min_created;
};

using Event = std::variant<PeerUp, PeerDown, ProofOfDeath, Deliver, Tick, Serving, Leave, Prune>;

struct Send {
  NodeId to;
  MembershipMessage message;
};
// Give the view to the core, the table to the container directory, both to the sync service, before
// any message of this epoch. `record` may name this node as departing only.
struct InstallView {
  ViewRecord record;
  std::string blob;
};
// This process is out of the cluster: end its programs and exit, to be started again empty.
struct Fence {
  std::string reason;
};
// The others need nothing more from this node: exit.
struct Left {};

using Action = std::variant<Send, InstallView, Fence, Left>;
using Actions = std::vector<Action>;

}  // namespace membership

class Membership {
 public:
  Membership(const MembershipConfig& config, MembershipHooks hooks);

  void step(const membership::Event& event, TimeMs now, membership::Actions& out);

  // When Tick is due; nothing if only other events can change anything.
  [[nodiscard]] std::optional<TimeMs> next_wakeup() const;

  [[nodiscard]] const ViewRecord* record() const {
    return installed_ ? &installed_->record : nullptr;
  }
  [[nodiscard]] bool fenced() const { return phase_ == Phase::kFenced; }
  [[nodiscard]] bool left() const { return phase_ == Phase::kLeft; }
  [[nodiscard]] bool reachable(NodeId node) const;
  // Why there is no (new) view yet, in words for logs and `gobctl nodes`; empty if all is well.
  [[nodiscard]] std::string waiting_for() const;

 private:
  enum class Phase : std::uint8_t {
    kJoining,    // in no view yet
    kMember,     // in installed_
    kDeparting,  // leaves with installed_, waits until the members need it no more
    kFenced,
    kLeft,
  };
  struct Peer {
    bool up = false;
    bool severed = false;        // its link broke since both are in the view: never whole again
    bool told = false;           // our Status is with it
    bool silent = false;         // the link ended by silence
    Ballot promised_before = 0;  // what this node had promised when the link came up
    std::uint64_t incarnation = 0;
    std::optional<membership::Status> status;
  };
  struct Round {
    Ballot ballot = 0;
    bool accepting = false;  // phase 2: `proposal` is sent
    std::set<NodeId> asked;
    std::map<NodeId, membership::Promise> promises;
    std::set<NodeId> accepted;
    Proposal proposal;
  };
  using Out = membership::Actions;
  static constexpr unsigned kLagSteps = 4;  // of retry_ms, until a view is sent once more

  // membership.cc: events, links
  void on(const membership::PeerUp& event, Out& out);
  void on(const membership::PeerDown& event, Out& out);
  void on(const membership::ProofOfDeath& event, Out& out);
  void on(const membership::Deliver& event, Out& out);
  void on(const membership::Tick& event, Out& out);
  void on(const membership::Serving& event, Out& out);
  void on(const membership::Leave& event, Out& out);
  void on(const membership::Prune& event, Out& out);
  void end_step(Out& out);
  void send(NodeId to, MembershipMessage message, Out& out);
  void send_status(Out& out);
  void fence(std::string reason, Out& out);
  void check_left(Out& out);
  void bury_others(NodeId node, std::uint64_t living);
  void prune_dead();
  [[nodiscard]] membership::Status status() const;
  [[nodiscard]] bool known(NodeId node) const { return node.value() < peers_.size(); }
  [[nodiscard]] Member self() const { return {config_.self, config_.incarnation}; }
  [[nodiscard]] Member member(NodeId node) const;  // the process at the other end of the link

  // acceptor.cc: a member's answers
  void receive(NodeId from, const membership::Status& message, Out& out);
  void receive(NodeId from, const membership::Prepare& message, Out& out);
  void receive(NodeId from, const membership::Accept& message, Out& out);
  void receive(NodeId from, const membership::Install& message, Out& out);
  void receive(NodeId from, const membership::Excluded& message, Out& out);
  [[nodiscard]] bool same_slot(NodeId from, const Slot& base, Out& out);
  [[nodiscard]] bool decided(const Slot& base) const;
  [[nodiscard]] bool may_install(const Proposal& proposal) const;
  void install(const Proposal& proposal, Out& out);
  void tell_excluded(NodeId to, Out& out);
  [[nodiscard]] bool left_behind(NodeId node) const;
  [[nodiscard]] bool is_behind(const Slot& theirs) const;

  // proposer.cc: making the next view
  void receive(NodeId from, const membership::Promise& message, Out& out);
  void receive(NodeId from, const membership::Nack& message, Out& out);
  void receive(NodeId from, const membership::Accepted& message, Out& out);
  void start_round(Out& out);
  void advance_round(Out& out);
  void choose(Out& out);
  void finish_round(Out& out);
  void wait_for(NodeId proposer);
  [[nodiscard]] std::optional<ViewRecord> next_record(const std::set<NodeId>& willing,
                                                      Ballot ballot) const;
  [[nodiscard]] const Proposal* must_adopt() const;
  [[nodiscard]] bool quorum(const std::set<NodeId>& nodes) const;
  void back_off();

  // change.cc: is a new view needed, and who could be in it
  enum class Need : std::uint8_t { kNothing, kSoon, kNow };
  [[nodiscard]] Need need() const;
  [[nodiscard]] Need need_first_view() const;
  [[nodiscard]] bool lost_member() const;
  [[nodiscard]] bool lost_departing() const;
  [[nodiscard]] bool in_trouble() const;
  [[nodiscard]] bool unfinished() const;
  [[nodiscard]] bool settled() const;  // every member of the view serves it
  [[nodiscard]] bool linked(NodeId a, NodeId b) const;
  [[nodiscard]] bool waits_to_depart(NodeId node) const;
  [[nodiscard]] bool wants_to_leave(NodeId node) const;
  [[nodiscard]] std::vector<NodeId> clique(const std::vector<NodeId>& from,
                                           std::vector<NodeId> start) const;
  [[nodiscard]] std::vector<NodeId> joiners(const std::vector<NodeId>& members) const;
  [[nodiscard]] std::set<NodeId> acceptors_in_reach() const;
  [[nodiscard]] unsigned rank() const;
  [[nodiscard]] std::optional<TimeMs> proposal_due() const;
  void watch_need();
  [[nodiscard]] TimeMs fence_due() const;  // in trouble only
  void watch_laggards(Out& out);
  [[nodiscard]] std::vector<NodeId> laggards() const;

  MembershipConfig config_;
  MembershipHooks hooks_;
  Phase phase_ = Phase::kJoining;
  TimeMs now_ = 0;
  std::optional<TimeMs> started_;

  std::vector<Peer> peers_;  // by node id; that of this node is unused
  std::set<Member> dead_;    // proven dead; pruned to the view and the accepted proposal
  // Those of them that were in touch with a member here until they died, so that they can't have
  // gone on in another view: they are not missed in a decision.
  std::set<Member> fallen_;

  std::optional<Proposal> installed_;  // the view this node is in
  Epoch serving_;
  Epoch min_created_;
  bool leaving_ = false;

  Ballot promised_ = 0;               // no older proposal is taken any more
  std::optional<Proposal> accepted_;  // for the slot after installed_
  std::uint64_t highest_round_ = 0;   // seen anywhere

  std::optional<Round> round_;
  unsigned attempts_ = 0;  // rounds lost to rivals since the last view
  TimeMs retry_at_ = 0;
  NodeId promised_to_ = kNoNode;  // a proposer that is given time to finish
  bool blocked_ = false;          // a view is needed, but only another event can make one possible
  Need need_now_ = Need::kNothing;
  std::optional<TimeMs> need_since_;
  std::optional<TimeMs> trouble_since_;
  std::optional<TimeMs> lag_since_;  // members have not said that they are in the view

  membership::Status told_;  // what the peers heard last
};

}  // namespace gob
