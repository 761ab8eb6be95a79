#include "libgob/runtime/peer_codec.h"

#include <algorithm>
#include <type_traits>

#include "libgob/container/container_codec.h"
#include "libgob/runtime/peer.pb.h"

namespace gob {

namespace {

// Remembers the first thing that is wrong; every reader goes on with harmless values.
class Checker {
 public:
  void require(bool holds, const char* what) {
    if (!holds && wrong_ == nullptr) wrong_ = what;
  }
  NodeId node(std::uint32_t value) {
    require(value < kMaxNodes, "a node id");
    return NodeId{static_cast<std::uint16_t>(value % kMaxNodes)};
  }
  [[nodiscard]] const char* wrong() const { return wrong_; }

 private:
  const char* wrong_ = nullptr;
};

// --- to protobuf ---

void put(const Member& from, peer::MemberId& to) {
  to.set_node(from.node.value());
  to.set_incarnation(from.incarnation);
}
template <class List>
void put_members(const std::vector<Member>& from, List& to) {
  for (const Member& member : from) put(member, *to.Add());
}
template <class List>
void put_nodes(const std::vector<NodeId>& from, List& to) {
  for (NodeId node : from) to.Add(node.value());
}
void put(const Slot& from, peer::ViewSlot& to) {
  to.set_cluster(from.cluster);
  to.set_index(from.index);
  to.set_epoch(from.epoch.value());
}
void put(const ViewRecord& from, peer::ViewState& to) {
  to.set_epoch(from.view.epoch.value());
  put_members(from.members(), *to.mutable_members());
  put_members(from.departing(), *to.mutable_departing());
  for (const Loss& loss : from.view.losses) {
    peer::ViewLoss& out = *to.add_losses();
    out.set_epoch(loss.epoch.value());
    put_nodes(loss.members, *out.mutable_members());
    put_nodes(loss.dead, *out.mutable_dead());
  }
  to.set_cluster(from.cluster);
  to.set_index(from.index);
  for (const auto& base : from.open_bases) put_nodes(base, *to.add_open_bases()->mutable_nodes());
}
void put(const Proposal& from, peer::ViewProposal& to) {
  to.set_ballot(from.ballot);
  put(from.base, *to.mutable_base());
  put(from.record, *to.mutable_record());
  to.set_blob(from.blob);
}

// --- from protobuf ---

Member get(const peer::MemberId& from, Checker& check) {
  check.require(from.incarnation() != 0, "an incarnation of 0");
  return {check.node(from.node()), from.incarnation()};
}
template <class List>
std::vector<Member> get_members(const List& from, Checker& check) {
  check.require(static_cast<std::size_t>(from.size()) <= 2 * kMaxNodes, "too many members");
  std::vector<Member> members;
  for (const peer::MemberId& member : from) members.push_back(get(member, check));
  check.require(std::ranges::is_sorted(members), "members out of order");
  check.require(std::ranges::adjacent_find(members) == members.end(), "a member named twice");
  return members;
}
template <class List>
std::vector<NodeId> get_nodes(const List& from, Checker& check) {
  check.require(static_cast<std::size_t>(from.size()) <= kMaxNodes, "too many nodes");
  std::vector<NodeId> nodes;
  for (const std::uint32_t node : from) nodes.push_back(check.node(node));
  check.require(std::ranges::is_sorted(nodes), "nodes out of order");
  check.require(std::ranges::adjacent_find(nodes) == nodes.end(), "a node named twice");
  return nodes;
}
Slot get(const peer::ViewSlot& from) { return {from.cluster(), from.index(), Epoch{from.epoch()}}; }
ViewRecord get(const peer::ViewState& from, Checker& check) {
  ViewRecord to;
  to.view.epoch = Epoch{from.epoch()};
  for (const Member& member : get_members(from.members(), check)) {
    to.view.members.push_back(member.node);
    to.incarnations.push_back(member.incarnation);
  }
  check.require(!to.view.members.empty(), "a view without members");
  check.require(std::ranges::adjacent_find(to.view.members) == to.view.members.end(),
                "a node that is a member twice");
  for (const Member& member : get_members(from.departing(), check)) {
    to.view.departing.push_back(member.node);
    to.departing_incarnations.push_back(member.incarnation);
  }
  check.require(static_cast<std::size_t>(from.losses_size()) <= kMaxLosses, "too many losses");
  for (const peer::ViewLoss& loss : from.losses()) {
    to.view.losses.push_back(
        {Epoch{loss.epoch()}, get_nodes(loss.members(), check), get_nodes(loss.dead(), check)});
    check.require(!to.view.losses.back().members.empty() && !to.view.losses.back().dead.empty(),
                  "a loss of nobody");
  }
  to.cluster = from.cluster();
  to.index = from.index();
  check.require(static_cast<std::size_t>(from.open_bases_size()) <= kMaxOpenBases,
                "too many open bases");
  for (const peer::NodeList& base : from.open_bases()) {
    to.open_bases.push_back(get_nodes(base.nodes(), check));
    check.require(!to.open_bases.back().empty(), "an open base of nobody");
  }
  return to;
}
Proposal get(const peer::ViewProposal& from, Checker& check) {
  check.require(from.has_base() && from.has_record(), "a proposal without its view");
  return {from.ballot(), get(from.base()), get(from.record(), check), from.blob()};
}

MembershipMessage get(const peer::MembershipBody& from, Checker& check) {
  switch (from.body_case()) {
    case peer::MembershipBody::kStatus: {
      const auto& status = from.status();
      return membership::Status{get(status.view()), Epoch{status.serving()}, status.leaving(),
                                get_members(status.reach(), check)};
    }
    case peer::MembershipBody::kPrepare:
      return membership::Prepare{from.prepare().ballot(), get(from.prepare().base())};
    case peer::MembershipBody::kPromise: {
      const auto& promise = from.promise();
      membership::Promise to;
      to.ballot = promise.ballot();
      if (promise.has_accepted()) to.accepted = get(promise.accepted(), check);
      to.dead = get_members(promise.dead(), check);
      to.fallen = get_members(promise.fallen(), check);
      to.blob = promise.blob();
      return to;
    }
    case peer::MembershipBody::kNack:
      return membership::Nack{from.nack().ballot(), from.nack().promised()};
    case peer::MembershipBody::kAccept:
      return membership::Accept{get(from.accept(), check)};
    case peer::MembershipBody::kAccepted:
      return membership::Accepted{from.accepted().ballot()};
    case peer::MembershipBody::kInstall:
      return membership::Install{get(from.install(), check)};
    case peer::MembershipBody::kExcluded:
      return membership::Excluded{get(from.excluded())};
    case peer::MembershipBody::BODY_NOT_SET:
      break;
  }
  check.require(false, "an empty membership message");
  return membership::Status{};
}

ContainerRecord get(const peer::ContainerRecord& from, Checker& check) {
  Result<ContainerRecord> record = from_proto(from);
  check.require(record.ok(), "a container record");
  return record ? std::move(*record) : ContainerRecord{};
}

ContainerId get_container(std::uint32_t id, Checker& check) {
  check.require(id != 0 && id <= kMaxContainerId, "a container id");
  return ContainerId{id};
}

ContainerMessage get(const peer::ContainerBody& from, Checker& check) {
  ContainerMessage to;
  to.epoch = Epoch{from.epoch()};
  switch (from.body_case()) {
    case peer::ContainerBody::kCreate:
      to.body = container::Create{get(from.create(), check)};
      return to;
    case peer::ContainerBody::kRemove: {
      const auto& remove = from.remove();
      check.require(static_cast<std::size_t>(remove.groups_size()) <= kMaxGroups,
                    "too many groups");
      to.body = container::Remove{
          remove.sequence(),
          get_container(remove.id(), check),
          {remove.uid(), remove.gid(), {remove.groups().begin(), remove.groups().end()}}};
      return to;
    }
    case peer::ContainerBody::kRefuse: {
      const auto& refuse = from.refuse();
      check.require(refuse.code() <= static_cast<std::uint32_t>(ErrorCode::kSystem),
                    "an error code");
      to.body = container::Refuse{refuse.sequence(), static_cast<ErrorCode>(refuse.code()),
                                  refuse.errno_value(), refuse.text()};
      return to;
    }
    case peer::ContainerBody::kAdd:
      to.body = container::Add{from.add().version(), get(from.add().record(), check)};
      return to;
    case peer::ContainerBody::kErase:
      to.body = container::Erase{from.erase().version(), get_container(from.erase().id(), check),
                                 check.node(from.erase().requester()), from.erase().sequence()};
      return to;
    case peer::ContainerBody::kAck:
      to.body = container::Ack{from.ack()};
      return to;
    case peer::ContainerBody::kCommit:
      to.body = container::Commit{from.commit()};
      return to;
    case peer::ContainerBody::BODY_NOT_SET:
      break;
  }
  check.require(false, "an empty container message");
  return to;
}

SyncMessage get(const peer::SyncBody& from, Checker& check) {
  SyncMessage to;
  check.require(from.kind() >= 1 && from.kind() <= static_cast<std::uint32_t>(kLastSyncKind),
                "a kind of sync message");
  check.require(from.result() <= static_cast<std::uint32_t>(kLastSyncResult), "a sync result");
  to.kind = static_cast<SyncKind>(from.kind());
  to.result = static_cast<SyncResult>(from.result());
  to.died = from.died();
  to.epoch = Epoch{from.epoch()};
  to.request = from.request();
  to.party = {check.node(from.node()), from.client(), from.holder()};
  to.count = from.count();
  check.require(from.name().size() <= kMaxNameBytes && from.lock().size() <= kMaxNameBytes,
                "too long a name");
  to.name = from.name();
  to.lock = from.lock();
  to.nodes = get_nodes(from.nodes(), check);
  return to;
}

}  // namespace

std::string encode_peer_message(const MembershipMessage& message) {
  peer::Envelope envelope;
  peer::MembershipBody& to = *envelope.mutable_membership();
  std::visit(
      [&](const auto& m) {
        using M = std::decay_t<decltype(m)>;
        if constexpr (std::is_same_v<M, membership::Status>) {
          put(m.view, *to.mutable_status()->mutable_view());
          to.mutable_status()->set_serving(m.serving.value());
          to.mutable_status()->set_leaving(m.leaving);
          put_members(m.reach, *to.mutable_status()->mutable_reach());
        } else if constexpr (std::is_same_v<M, membership::Prepare>) {
          to.mutable_prepare()->set_ballot(m.ballot);
          put(m.base, *to.mutable_prepare()->mutable_base());
        } else if constexpr (std::is_same_v<M, membership::Promise>) {
          to.mutable_promise()->set_ballot(m.ballot);
          if (m.accepted) put(*m.accepted, *to.mutable_promise()->mutable_accepted());
          put_members(m.dead, *to.mutable_promise()->mutable_dead());
          put_members(m.fallen, *to.mutable_promise()->mutable_fallen());
          to.mutable_promise()->set_blob(m.blob);
        } else if constexpr (std::is_same_v<M, membership::Nack>) {
          to.mutable_nack()->set_ballot(m.ballot);
          to.mutable_nack()->set_promised(m.promised);
        } else if constexpr (std::is_same_v<M, membership::Accept>) {
          put(m.proposal, *to.mutable_accept());
        } else if constexpr (std::is_same_v<M, membership::Accepted>) {
          to.mutable_accepted()->set_ballot(m.ballot);
        } else if constexpr (std::is_same_v<M, membership::Install>) {
          put(m.proposal, *to.mutable_install());
        } else {
          static_assert(std::is_same_v<M, membership::Excluded>);
          put(m.view, *to.mutable_excluded());
        }
      },
      message);
  return envelope.SerializeAsString();
}

std::string encode_peer_message(const ContainerMessage& message) {
  peer::Envelope envelope;
  peer::ContainerBody& to = *envelope.mutable_container();
  to.set_epoch(message.epoch.value());
  std::visit(
      [&](const auto& m) {
        using M = std::decay_t<decltype(m)>;
        if constexpr (std::is_same_v<M, container::Create>) {
          to_proto(m.record, *to.mutable_create());
        } else if constexpr (std::is_same_v<M, container::Remove>) {
          to.mutable_remove()->set_sequence(m.sequence);
          to.mutable_remove()->set_id(m.id.value());
          to.mutable_remove()->set_uid(m.who.uid);
          to.mutable_remove()->set_gid(m.who.gid);
          for (const std::uint32_t group : m.who.groups) to.mutable_remove()->add_groups(group);
        } else if constexpr (std::is_same_v<M, container::Refuse>) {
          to.mutable_refuse()->set_sequence(m.sequence);
          to.mutable_refuse()->set_code(static_cast<std::uint32_t>(m.code));
          to.mutable_refuse()->set_errno_value(m.errno_value);
          to.mutable_refuse()->set_text(m.text);
        } else if constexpr (std::is_same_v<M, container::Add>) {
          to.mutable_add()->set_version(m.version);
          to_proto(m.record, *to.mutable_add()->mutable_record());
        } else if constexpr (std::is_same_v<M, container::Erase>) {
          to.mutable_erase()->set_version(m.version);
          to.mutable_erase()->set_id(m.id.value());
          to.mutable_erase()->set_requester(m.requester.value());
          to.mutable_erase()->set_sequence(m.sequence);
        } else if constexpr (std::is_same_v<M, container::Ack>) {
          to.set_ack(m.version);
        } else {
          static_assert(std::is_same_v<M, container::Commit>);
          to.set_commit(m.version);
        }
      },
      message.body);
  return envelope.SerializeAsString();
}

std::string encode_peer_message(const SyncMessage& message) {
  peer::Envelope envelope;
  peer::SyncBody& to = *envelope.mutable_sync();
  to.set_kind(static_cast<std::uint32_t>(message.kind));
  to.set_result(static_cast<std::uint32_t>(message.result));
  to.set_died(message.died);
  to.set_epoch(message.epoch.value());
  to.set_request(message.request);
  to.set_node(message.party.node.value());
  to.set_client(message.party.client);
  to.set_holder(message.party.holder);
  to.set_count(message.count);
  to.set_name(message.name);
  to.set_lock(message.lock);
  put_nodes(message.nodes, *to.mutable_nodes());
  return envelope.SerializeAsString();
}

std::string encode_peer_message(peer::FileBody message) {
  peer::Envelope envelope;
  envelope.mutable_file()->Swap(&message);  // it may carry a mebibyte
  return envelope.SerializeAsString();
}

std::string encode_peer_message(AliveMessage) {
  peer::Envelope envelope;
  envelope.set_alive(true);
  return envelope.SerializeAsString();
}

Result<PeerMessage> decode_peer_message(std::span<const std::byte> bytes) {
  peer::Envelope envelope;
  const auto bad = [](const std::string& why) {
    return make_error(ErrorCode::kProtocol, "control message refused: " + why);
  };
  if (!envelope.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return bad("the bytes are no message");
  Checker check;
  PeerMessage message;
  switch (envelope.body_case()) {
    case peer::Envelope::kMembership:
      message = get(envelope.membership(), check);
      break;
    case peer::Envelope::kContainer:
      message = get(envelope.container(), check);
      break;
    case peer::Envelope::kSync:
      message = get(envelope.sync(), check);
      break;
    case peer::Envelope::kFile:
      if (const Status status = file::check_file_body(envelope.file()); !status)
        return bad(status.error().context);
      message = std::move(*envelope.mutable_file());
      break;
    case peer::Envelope::kAlive:
      message = AliveMessage{};
      break;
    case peer::Envelope::BODY_NOT_SET:
      return bad("it is empty");
  }
  if (check.wrong() != nullptr) return bad(std::string("it has ") + check.wrong());
  return message;
}

}  // namespace gob
