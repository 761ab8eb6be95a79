// The directory of names: requests, and what every member does. order.cc has the orderer's part.
#include "libgob/container/container_table.h"

#include <algorithm>
#include <set>

#include "libgob/container/container_codec.h"

namespace gob {

using namespace container;

namespace {

constexpr std::size_t kMaxOutstanding = 65536;
constexpr std::size_t kMaxEarly = 65536;

Error not_found(std::string_view name) {
  return make_error(ErrorCode::kNotFound, "there is no container " + quoted(name), ENOENT);
}

}  // namespace

std::uint64_t ContainerTable::create(const NewContainer& wanted, const Credentials& who, Out& out) {
  ContainerRecord record;
  record.info.pages = pages_of(wanted.size_bytes);
  record.info.home = wanted.home;
  record.name = wanted.name;
  record.kind = wanted.kind;
  record.source = wanted.source;
  record.size_bytes = wanted.size_bytes;
  record.mode = wanted.mode;
  record.uid = who.uid;
  record.gid = who.gid;
  record.created_unix_ms = wanted.created_unix_ms;
  const std::uint64_t request = admit({record, {}}, out);
  for (const Status& status :
       {check_name(wanted.name), check_kind(record), check_mode(wanted.mode)})
    if (!status) reply(request, status.error(), out);
  ask(request, out);
  return request;
}

std::uint64_t ContainerTable::remove(const std::string& name, const Credentials& who, Out& out) {
  const ContainerRecord* record = find(name);
  const std::uint64_t request =
      admit({Removing{record != nullptr ? *record : ContainerRecord{}, who}, {}}, out);
  if (record == nullptr)
    reply(request, not_found(name), out);
  else
    ask(request, out);
  return request;
}

std::uint64_t ContainerTable::open(const std::string& name, const Credentials& who,
                                   const std::vector<Right>& rights, Out& out) {
  Opening opening{name, who, rights};
  const std::uint64_t request = admit({opening, {}}, out);
  try_open(request, opening, out);
  return request;
}

// A request that finds no room is answered at once and then unknown.
std::uint64_t ContainerTable::admit(Outstanding outstanding, Out& out) {
  const std::uint64_t request = ++last_request_;
  if (auto* record = std::get_if<ContainerRecord>(&outstanding.wanted))
    record->creator = {self_, incarnation_, request};
  const bool room = outstanding_.size() < kMaxOutstanding;
  outstanding_.emplace(request, std::move(outstanding));
  if (!room)
    reply(
        request,
        make_error(ErrorCode::kUnavailable,
                   "too many requests about containers wait on this node; try again later", EAGAIN),
        out);
  return request;
}

void ContainerTable::reply(std::uint64_t request, Result<ContainerRecord> result, Out& out) {
  if (outstanding_.erase(request) != 0) out.emplace_back(Reply{request, std::move(result)});
}

void ContainerTable::send(NodeId to, Body body, Out& out) {
  if (to == self_)
    deliver(self_, {epoch_, std::move(body)}, out);
  else
    out.emplace_back(Send{to, {epoch_, std::move(body)}});
}

// This node last: what it does next must follow on every link.
void ContainerTable::send_all(const Body& body, Out& out) {
  for (NodeId node : members_)
    if (node != self_) send(node, body, out);
  send(self_, body, out);
}

// Puts a request before the orderer, unless the view that begins has already fulfilled it.
void ContainerTable::ask(std::uint64_t request, Out& out) {
  const auto found = outstanding_.find(request);
  if (found == outstanding_.end() || members_.empty() || frozen_) return;
  if (const auto* record = std::get_if<ContainerRecord>(&found->second.wanted)) {
    send(members_.front(), Create{*record}, out);
  } else if (const auto* removing = std::get_if<Removing>(&found->second.wanted)) {
    send(members_.front(), Remove{request, removing->record.info.id, removing->who}, out);
  }
}

void ContainerTable::try_open(std::uint64_t request, const Opening& opening, Out& out) {
  const auto found = names_.find(opening.name);
  if (members_.empty()) return;  // it waits for the first view
  if (found == names_.end()) return reply(request, not_found(opening.name), out);
  const Entry& entry = entries_.at(found->second);
  if (entry.version > committed_) return;  // it waits until all know it
  for (const Right right : opening.rights) {
    if (may(entry.record, opening.who, right)) continue;
    return reply(request,
                 make_error(ErrorCode::kPermissionDenied,
                            "user " + std::to_string(opening.who.uid) + " may not " +
                                (right == Right::kRead    ? "read"
                                 : right == Right::kWrite ? "write"
                                                          : "remove") +
                                " container " + quoted(opening.name) + "; its owner is user " +
                                std::to_string(entry.record.uid),
                            EACCES),
                 out);
  }
  reply(request, entry.record, out);
}

// Answers the requests that can be answered now.
void ContainerTable::settle(Out& out) {
  std::vector<std::uint64_t> waiting;
  for (const auto& [request, outstanding] : outstanding_) waiting.push_back(request);
  for (const std::uint64_t request : waiting) {
    const auto found = outstanding_.find(request);
    if (found == outstanding_.end()) continue;
    const Outstanding& outstanding = found->second;
    if (const auto* opening = std::get_if<Opening>(&outstanding.wanted)) {
      try_open(request, Opening(*opening), out);
    } else if (outstanding.version && *outstanding.version <= committed_) {
      if (const auto* record = std::get_if<ContainerRecord>(&outstanding.wanted))
        reply(request, ContainerRecord(*record), out);
      else if (const auto* removing = std::get_if<Removing>(&outstanding.wanted))
        reply(request, ContainerRecord(removing->record), out);
    }
  }
}

void ContainerTable::deliver(NodeId from, const ContainerMessage& message, Out& out) {
  if (message.epoch > epoch_) {
    if (early_.size() < kMaxEarly)
      early_.emplace_back(from, message);
    else
      out.emplace_back(Violation{from, "more messages of a coming view than fit"});
    return;
  }
  if (message.epoch < epoch_ || frozen_) return;
  if (!std::ranges::binary_search(members_, from)) return;
  std::visit([&](const auto& body) { receive(from, body, out); }, message.body);
}

bool ContainerTable::in_order(NodeId from, std::uint64_t version, Out& out) {
  if (from == members_.front() && version == version_ + 1) return true;
  out.emplace_back(Violation{
      from, "change " + std::to_string(version) + " of the container table out of order"});
  return false;
}

void ContainerTable::insert(const ContainerRecord& record, std::uint64_t version) {
  names_[record.name] = record.info.id;
  last_id_ = std::max(last_id_, record.info.id.value());
  entries_[record.info.id] = {record, version};
}

void ContainerTable::receive(NodeId from, const Add& message, Out& out) {
  if (!in_order(from, message.version, out)) return;
  if (!check_record(message.record) || entries_.contains(message.record.info.id) ||
      names_.contains(message.record.name)) {
    out.emplace_back(Violation{from, "container " + quoted(message.record.name) + " cannot be"});
    return;
  }
  version_ = message.version;
  insert(message.record, version_);
  out.emplace_back(Added{message.record});
  const RequestId& creator = message.record.creator;
  if (creator.node == self_ && creator.incarnation == incarnation_) {
    const auto mine = outstanding_.find(creator.sequence);
    if (mine != outstanding_.end()) mine->second = {message.record, version_};
  }
  send(from, Ack{version_}, out);
}

void ContainerTable::receive(NodeId from, const Erase& message, Out& out) {
  if (!in_order(from, message.version, out)) return;
  version_ = message.version;
  const auto found = entries_.find(message.id);
  if (found != entries_.end()) {
    names_.erase(found->second.record.name);
    entries_.erase(found);
    out.emplace_back(Removed{message.id});
  }
  if (message.requester == self_) {
    const auto mine = outstanding_.find(message.sequence);
    if (mine != outstanding_.end()) mine->second.version = version_;
  }
  send(from, Ack{version_}, out);
}

void ContainerTable::receive(NodeId from, const Commit& message, Out& out) {
  if (from != members_.front() || message.version > version_) {
    out.emplace_back(Violation{from, "commit of a change that was not sent"});
    return;
  }
  committed_ = std::max(committed_, message.version);
  settle(out);
}

void ContainerTable::receive(NodeId from, const Refuse& message, Out& out) {
  if (from != members_.front()) return;
  reply(message.sequence, make_error(message.code, message.text, message.errno_value), out);
}

std::string ContainerTable::freeze() {
  frozen_ = true;
  TableState state;
  state.version = version_;
  state.last_id = last_id_;
  for (const auto& [id, entry] : entries_) state.records.push_back(entry.record);
  return encode_table(state);
}

// All tables of one view are prefixes of one order: the longest has everything, removals included.
std::string ContainerTable::merge(const std::vector<std::string>& tables) {
  std::string longest = encode_table({});
  std::uint64_t most = 0;
  for (const std::string& table : tables) {
    const auto state = decode_table(table);
    if (!state || state->version < most) continue;
    most = state->version;
    longest = table;
  }
  return longest;
}

Status ContainerTable::install_view(const View& view, const std::string& table, Out& out) {
  auto state = decode_table(table);
  if (!state)
    return make_error(state.error().code, "installing the container table of view " +
                                              std::to_string(view.epoch.value()) +
                                              " failed: " + state.error().context);
  epoch_ = view.epoch;
  members_ = view.members;
  frozen_ = false;
  version_ = committed_ = state->version;
  acked_.clear();
  for (NodeId node : members_) acked_[node] = version_;

  std::set<ContainerId> present;
  for (const ContainerRecord& record : state->records) present.insert(record.info.id);
  for (auto it = entries_.begin(); it != entries_.end();) {
    if (present.contains(it->first)) {
      ++it;
      continue;
    }
    out.emplace_back(Removed{it->first});
    names_.erase(it->second.record.name);
    it = entries_.erase(it);
  }
  last_id_ = std::max(last_id_, state->last_id);
  for (const ContainerRecord& record : state->records) {
    if (!entries_.contains(record.info.id)) out.emplace_back(Added{record});
    insert(record, 0);
    const RequestId& creator = record.creator;
    if (creator.node != self_ || creator.incarnation != incarnation_) continue;
    if (outstanding_.contains(creator.sequence)) reply(creator.sequence, record, out);
  }
  std::vector<std::uint64_t> waiting;
  for (auto& [request, outstanding] : outstanding_) {
    outstanding.version.reset();
    waiting.push_back(request);
  }
  const bool here = view.contains(self_);
  for (const std::uint64_t request : waiting) {
    const auto found = outstanding_.find(request);
    if (found == outstanding_.end()) continue;  // answered along with one before it
    const auto* removing = std::get_if<Removing>(&found->second.wanted);
    if (!here)
      reply(request,
            make_error(ErrorCode::kUnavailable, "this node is leaving the cluster", ESHUTDOWN),
            out);
    else if (removing != nullptr && !entries_.contains(removing->record.info.id))
      reply(request, ContainerRecord(removing->record), out);
    else
      ask(request, out);
  }
  settle(out);
  const auto early = std::move(early_);
  early_.clear();
  for (const auto& [from, message] : early) deliver(from, message, out);
  return {};
}

const ContainerRecord* ContainerTable::find(std::string_view name) const {
  const auto found = names_.find(name);
  return found == names_.end() ? nullptr : find(found->second);
}

const ContainerRecord* ContainerTable::find(ContainerId id) const {
  const auto found = entries_.find(id);
  if (found == entries_.end() || found->second.version > committed_) return nullptr;
  return &found->second.record;
}

std::vector<ContainerRecord> ContainerTable::list() const {
  std::vector<ContainerRecord> all;
  for (const auto& [id, entry] : entries_)
    if (entry.version <= committed_) all.push_back(entry.record);
  return all;
}

Epoch ContainerTable::oldest() const {
  Epoch oldest = epoch_;
  for (const auto& [id, entry] : entries_) oldest = std::min(oldest, entry.record.info.created);
  return oldest;
}

}  // namespace gob
