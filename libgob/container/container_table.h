// ContainerTable: the cluster's directory of containers by name, replicated on every member. Pure
// state machine: no clock, thread or socket. The control thread owns it.
//
// A change goes to the orderer (lowest member of the view), from there to all members, and is done
// when all have made it: a container that a program can open exists in every core. At a view change
// the tables stand still (`freeze`), the longest of them goes on, and requests that were cut short
// are made anew by whoever made them.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "libgob/container/container_message.h"
#include "libgob/protocol/view.h"

namespace gob {
namespace container {

struct Send {
  NodeId to;
  ContainerMessage message;
};
// For the core: event::AddContainer, event::RemoveContainer. Before any message about it.
struct Added {
  ContainerRecord record;
};
struct Removed {
  ContainerId id;
};
// The end of a request of this node.
struct Reply {
  std::uint64_t request = 0;
  Result<ContainerRecord> result;  // of Remove: the record that was
};
// The peer sent what no correct peer sends: drop it.
struct Violation {
  NodeId from;
  std::string what;
};

using Action = std::variant<Send, Added, Removed, Reply, Violation>;
using Actions = std::vector<Action>;

}  // namespace container

class ContainerTable {
 public:
  ContainerTable(NodeId self, std::uint64_t incarnation) : self_(self), incarnation_(incarnation) {}

  struct NewContainer {
    std::string name;
    std::uint64_t size_bytes = 0;
    std::uint32_t mode = 0600;
    std::uint64_t created_unix_ms = 0;
    NodeId home = kNoNode;  // with these two: see check_kind()
    ContainerKind kind = ContainerKind::kMemory;
    std::string source;
  };

  // Requests of this node's programs. Each returns a number; one Reply with it follows, in the same
  // step or later. Before the first view they wait.
  std::uint64_t create(const NewContainer& wanted, const Credentials& who, container::Actions& out);
  std::uint64_t remove(const std::string& name, const Credentials& who, container::Actions& out);
  // Succeeds once every member knows the container, if `who` has all of `rights`.
  std::uint64_t open(const std::string& name, const Credentials& who,
                     const std::vector<Right>& rights, container::Actions& out);
  // Nobody waits for the Reply any more. What was asked may still happen.
  void forget(std::uint64_t request) { outstanding_.erase(request); }

  void deliver(NodeId from, const ContainerMessage& message, container::Actions& out);

  // For MembershipHooks. From freeze() to install_view() nothing changes here.
  [[nodiscard]] std::string freeze();
  [[nodiscard]] static std::string merge(const std::vector<std::string>& tables);
  // Fails if `table` is not what freeze and merge make; then this node has to leave the cluster.
  [[nodiscard]] Status install_view(const View& view, const std::string& table,
                                    container::Actions& out);

  // What every member knows; null if there is none.
  [[nodiscard]] const ContainerRecord* find(std::string_view name) const;
  [[nodiscard]] const ContainerRecord* find(ContainerId id) const;
  [[nodiscard]] std::vector<ContainerRecord> list() const;  // by id
  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  // No container is older; for membership::Prune.
  [[nodiscard]] Epoch oldest() const;

 private:
  using Out = container::Actions;
  struct Entry {
    ContainerRecord record;
    std::uint64_t version = 0;  // the change that made it; visible when that is committed
  };
  struct Opening {
    std::string name;
    Credentials who;
    std::vector<Right> rights;
  };
  struct Removing {
    ContainerRecord record;
    Credentials who;
  };
  struct Outstanding {
    std::variant<ContainerRecord, Removing, Opening> wanted;
    std::optional<std::uint64_t> version;  // ordered; the reply waits for its commit
  };

  std::uint64_t admit(Outstanding outstanding, Out& out);
  void reply(std::uint64_t request, Result<ContainerRecord> result, Out& out);
  void send(NodeId to, container::Body body, Out& out);
  void send_all(const container::Body& body, Out& out);
  void ask(std::uint64_t request, Out& out);
  void try_open(std::uint64_t request, const Opening& opening, Out& out);
  void settle(Out& out);
  [[nodiscard]] bool orders() const { return !members_.empty() && members_.front() == self_; }

  // The orderer.
  void receive(NodeId from, const container::Create& message, Out& out);
  void receive(NodeId from, const container::Remove& message, Out& out);
  void receive(NodeId from, const container::Ack& message, Out& out);
  void refuse(NodeId to, std::uint64_t sequence, const Error& error, Out& out);
  // Every member.
  void receive(NodeId from, const container::Refuse& message, Out& out);
  void receive(NodeId from, const container::Add& message, Out& out);
  void receive(NodeId from, const container::Erase& message, Out& out);
  void receive(NodeId from, const container::Commit& message, Out& out);
  [[nodiscard]] bool in_order(NodeId from, std::uint64_t version, Out& out);
  void insert(const ContainerRecord& record, std::uint64_t version);

  NodeId self_;
  std::uint64_t incarnation_ = 0;
  Epoch epoch_;
  std::vector<NodeId> members_;
  bool frozen_ = false;

  std::map<ContainerId, Entry> entries_;
  std::map<std::string, ContainerId, std::less<>> names_;
  std::uint32_t last_id_ = 0;              // ids are never used again
  std::uint64_t version_ = 0;              // changes made here
  std::uint64_t committed_ = 0;            // changes made by every member
  std::map<NodeId, std::uint64_t> acked_;  // at the orderer

  std::map<std::uint64_t, Outstanding> outstanding_;
  std::uint64_t last_request_ = 0;
  std::deque<std::pair<NodeId, ContainerMessage>> early_;  // of a view not installed here yet
};

}  // namespace gob
