// SyncService: cluster barriers, locks and condition variables by name, as one node sees them. It
// passes the requests of its programs on to the home of each object (a pure function of the view),
// remembers what they wait for and hold, and says it again to the new homes when the view changes.
// Every request ends: granted, or with an error. Pure; the control thread owns it.
#pragma once

#include <cstdint>
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

  // Returns the number under which the answer will come. Before the first view requests wait.
  std::uint64_t request(const Request& request, Out& out);
  // The program is gone: what it waits for is withdrawn, its locks are released as orphaned.
  void client_gone(std::uint64_t client, Out& out);
  void deliver(NodeId from, const SyncMessage& message, Out& out);
  void install_view(const View& view, Out& out);
  void tick(std::uint64_t now_ms, Out& out);
  [[nodiscard]] std::optional<std::uint64_t> next_deadline_ms() const;

  [[nodiscard]] std::size_t outstanding() const { return outstanding_.size(); }
  [[nodiscard]] std::size_t objects_here() const { return home_.objects(); }

 private:
  struct Outstanding {
    SyncMessage message;
    std::optional<std::uint64_t> deadline_ms;
    bool abandoned = false;  // its client is gone: the answer goes nowhere
  };
  struct Client {
    std::set<std::pair<std::string, std::uint64_t>> held;  // lock, holder
    std::map<std::string, std::vector<NodeId>> barriers;   // used, with the last participants
  };

  [[nodiscard]] NodeId home_of(const SyncMessage& message) const;
  void send(NodeId to, SyncMessage message, Out& out);
  void send_home(const SyncMessage& message, Out& out);
  void handle_at_home(const SyncMessage& message, Out& out);
  void on_reply(const SyncMessage& message, Out& out);
  void settle(const SyncMessage& asked, SyncResult result, const SyncMessage& reply);
  void cancel(const Outstanding& outstanding, bool died, Out& out);
  void wake_up(SyncMessage& waiting);
  void finish_registration(Out& out);
  [[nodiscard]] bool breaks(const SyncMessage& waiting, const std::vector<NodeId>& dead) const;

  NodeId self_;
  View view_;
  bool serving_ = false;  // all members have registered
  SyncHome home_;
  std::set<NodeId> registered_;
  std::vector<SyncMessage> waiting_;                   // requests until then
  std::vector<std::pair<NodeId, SyncMessage>> early_;  // of a view not installed here yet
  std::map<std::uint64_t, Outstanding> outstanding_;   // by request, in the order asked
  std::map<std::uint64_t, Client> clients_;
  std::uint64_t next_request_ = 1;
};

}  // namespace gob
