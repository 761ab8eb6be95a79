// The orderer's part of the container table: it decides, numbers the changes, and says when every
// member has made them.
#include <algorithm>

#include "libgob/container/container_table.h"

namespace gob {

using namespace container;

void ContainerTable::refuse(NodeId to, std::uint64_t sequence, const Error& error, Out& out) {
  send(to, Refuse{sequence, error.code, error.errno_value, error.context}, out);
}

void ContainerTable::receive(NodeId from, const Create& message, Out& out) {
  if (!orders()) return;
  ContainerRecord record = message.record;
  const std::uint64_t sequence = record.creator.sequence;
  if (record.creator.node != from) {
    out.emplace_back(Violation{from, "a request in the name of another node"});
    return;
  }
  if (names_.contains(record.name))
    return refuse(from, sequence,
                  make_error(ErrorCode::kAlreadyExists,
                             "container " + quoted(record.name) + " exists already", EEXIST),
                  out);
  if (entries_.size() >= kMaxContainers)
    return refuse(from, sequence,
                  make_error(ErrorCode::kNoSpace,
                             "the cluster has " + std::to_string(kMaxContainers) +
                                 " containers, which is the most it can have; remove one",
                             ENOSPC),
                  out);
  if (last_id_ >= kMaxContainerId)
    return refuse(
        from, sequence,
        make_error(ErrorCode::kNoSpace,
                   "the cluster has used up its container ids; restart all of it", ENOSPC),
        out);
  record.info.id = ContainerId{last_id_ + 1};
  record.info.created = epoch_;
  if (const Status status = check_record(record); !status)
    return refuse(from, sequence, status.error(), out);
  send_all(Add{version_ + 1, record}, out);
}

void ContainerTable::receive(NodeId from, const Remove& message, Out& out) {
  if (!orders()) return;
  const auto found = entries_.find(message.id);
  if (found == entries_.end())
    return refuse(
        from, message.sequence,
        make_error(ErrorCode::kNotFound, "the container has been removed already", ENOENT), out);
  const ContainerRecord& record = found->second.record;
  if (!may(record, message.who, Right::kAdmin))
    return refuse(
        from, message.sequence,
        make_error(ErrorCode::kPermissionDenied,
                   "user " + std::to_string(message.who.uid) + " may not remove container " +
                       quoted(record.name) + "; only its owner, user " +
                       std::to_string(record.uid) + ", and root may",
                   EPERM),
        out);
  send_all(Erase{version_ + 1, message.id, from, message.sequence}, out);
}

void ContainerTable::receive(NodeId from, const Ack& message, Out& out) {
  if (!orders()) return;
  if (message.version > version_) {
    out.emplace_back(Violation{from, "acknowledgement of a change that was not sent"});
    return;
  }
  acked_[from] = std::max(acked_[from], message.version);
  std::uint64_t lowest = version_;
  for (const auto& [node, version] : acked_) lowest = std::min(lowest, version);
  if (lowest > committed_) send_all(Commit{lowest}, out);
}

}  // namespace gob
