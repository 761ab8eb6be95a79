// SyncService: cluster barriers, locks and condition variables by name, as one node sees them. It
// passes the requests of its programs on to the home of each object (a pure function of the view),
// remembers what they wait for and hold, and says it again to the new homes when the view changes.
// Every request ends: granted, or with an error. Pure; the control thread owns it.
//
// A view change goes in three steps. Draining: the answers of the old homes still count, until each
// member's marker says that no more follow; otherwise a barrier might open for some and not for
// others. Registering: every node tells the new homes what its programs hold and wait for. Serving:
// a home that has heard all members goes on.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "libgob/protocol/view.h"
#include "libgob/sync/sync_home.h"
#include "libgob/sync/sync_message.h"

namespace gob {

class SyncService {
 public:
  struct Request {
    SyncKind kind = SyncKind::kBarrier;  // kBarrier ... kCondBroadcast, not kCancel
    std::uint64_t client = 0;
    std::uint64_t holder = 0;
    std::string name;  // barrier, lock, or condition
    std::string lock;  // of a condition
    std::uint32_t count = 0;
    std::optional<std::uint64_t> deadline_ms;  // by the clock that tick() brings
  };
  struct Answer {
    std::uint64_t request = 0;
    SyncResult result = SyncResult::kOk;
  };
  struct Out {
    std::vector<std::pair<NodeId, SyncMessage>> messages;  // to peers, in order
    std::vector<Answer> answers;                           // to programs
  };

  explicit SyncService(NodeId self) : self_(self) {}

  // Returns the number under which the answer will come, perhaps in this step already. Before the
  // first view requests wait.
  std::uint64_t request(const Request& request, Out& out);
  // The program is gone: what it waits for is withdrawn, its locks are released as orphaned.
  void client_gone(std::uint64_t client, Out& out);
  void deliver(NodeId from, const SyncMessage& message, Out& out);
  void install_view(const View& view, Out& out);
  // Its link broke: nothing more comes from a node that is leaving.
  void peer_down(NodeId node, Out& out);
  void tick(std::uint64_t now_ms, Out& out);
  [[nodiscard]] std::optional<std::uint64_t> next_deadline_ms() const;

  [[nodiscard]] std::size_t outstanding() const { return outstanding_.size(); }
  [[nodiscard]] std::size_t objects_here() const { return home_.objects(); }

 private:
  enum class Phase : std::uint8_t {
    kOutside,      // in no view, or not in this one any more
    kDraining,     // waits for markers
    kRegistering,  // told the new homes; waits for the other members to do so
    kServing,
  };
  struct Outstanding {
    SyncMessage message;
    std::optional<std::uint64_t> deadline_ms;
    bool asked = false;       // some home heard of it
    NodeId home = kNoNode;    // whom it was sent to and who may still know of it
    bool late = false;        // its time is up; the home is asked to cancel it
    bool abandoned = false;   // its client is gone: the answer goes nowhere
    bool reacquires = false;  // a condition wait that a view change turned into a lock request
    bool home_died = false;   // whom it was sent to died with what it knew
  };
  // The last round of a barrier that a client took part in.
  struct Round {
    std::uint32_t number = 0;
    std::uint32_t previous = 0;  // number of the client's round before; 0: this was its first
    std::uint32_t count = 0;
    std::vector<NodeId> nodes;
    bool broken = false;  // a participant is gone: the next round can't be complete
  };
  struct Client {
    std::set<std::pair<std::string, std::uint64_t>> held;  // lock, holder
    std::map<std::string, Round> rounds;                   // by barrier
  };

  // sync_service.cc
  [[nodiscard]] NodeId home_of(const SyncMessage& message) const;
  void send(NodeId to, SyncMessage message, Out& out);
  void send_home(const SyncMessage& message, Out& out);
  void ask(Outstanding& outstanding, Out& out);
  void answer(std::uint64_t request, SyncResult result, Out& out);
  std::optional<SyncResult> judge(const SyncMessage& message);
  void on_reply(const SyncMessage& message, Out& out);
  void on_barrier_leave(const SyncMessage& message, Out& out);
  void leave_round(const SyncMessage& barrier, std::uint32_t number,
                   const std::vector<NodeId>& nodes, Out& out);
  void report_death(SyncKind kind, const std::string& lock, const SyncParty& holder, Out& out);
  void take_back(const SyncMessage& asked, bool died, Out& out);
  void cancel(const Outstanding& outstanding, bool died, Out& out);
  void at_home(const SyncMessage& message, Out& out);

  // sync_view_change.cc
  void note_orphan(const std::string& name);
  void await_markers(Out& out);
  void on_marker(NodeId from, Out& out);
  void depart(Out& out);
  void maybe_register(Out& out);
  void register_held(Out& out);
  void register_outstanding(Out& out);
  void break_barrier(std::uint64_t request, Out& out);
  void maybe_serve(Out& out);
  [[nodiscard]] bool round_broken(const SyncMessage& barrier) const;
  [[nodiscard]] bool breaks(const SyncMessage& barrier) const;

  NodeId self_;
  View view_;
  Phase phase_ = Phase::kOutside;

  // As a home.
  SyncHome home_;
  std::set<NodeId> registered_;
  std::vector<SyncMessage> orphans_here_;  // told by members; applied when all have registered
  std::vector<SyncMessage> waiting_;       // requests until then

  // As a node with programs.
  std::map<std::uint64_t, Outstanding> outstanding_;  // by request, in the order asked
  std::map<std::uint64_t, Client> clients_;
  // Rounds that a participant left, which may be known here before the round's own end is.
  std::deque<std::pair<std::string, std::uint32_t>> left_rounds_;
  std::uint64_t last_request_ = 0;
  std::set<NodeId> awaited_;  // whose marker is missing
  std::set<NodeId> dead_;     // members that died since this node last registered
  std::vector<std::pair<NodeId, SyncMessage>> early_;  // of a view not installed here yet
};

}  // namespace gob
