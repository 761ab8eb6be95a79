// The end of attached files. What programs have written into mapped ones is in the memory of the
// nodes: it gets to the disk of the home before the attachment goes, and if it cannot, that stays.
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "libgob/runtime/describe.h"
#include "libgob/runtime/node.h"

namespace gob {

void Node::detach(const PeerCredentials& peer, ClientId client, const control::Detach& request,
                  Responder responder) {
  const ContainerRecord* record = table_->find(request.name());
  const bool segment = record != nullptr && record->kind == ContainerKind::kSegment;
  if (segment || (segments_ != nullptr && segments_->contains(request.name()))) {
    if (peer.uid == 0 || peer.uid == ::geteuid())
      return detach_segment(request.name(), request.lossy(), std::move(responder));
    return responder.fail(
        make_error(ErrorCode::kPermissionDenied,
                   "only root and the user that runs gobd may detach segments and files", EPERM));
  }
  if (record == nullptr || record->kind == ContainerKind::kMemory ||
      record->kind == ContainerKind::kProcess)
    return responder.fail(make_error(ErrorCode::kNotFound,
                                     "nothing is attached as " + quoted(request.name()), ENOENT));
  const Credentials who = credentials(peer);
  if (record->kind == ContainerKind::kTree)
    return detach_tree(*record, who, request.lossy(), std::move(responder));
  // One file's, whose home does not return.
  container::Actions actions;
  const std::uint64_t id = table_->remove(request.name(), who, actions);
  await_table(id, client, {}, std::move(responder), actions);
}

void Node::detach_tree(const ContainerRecord& record, const Credentials& who, bool lossy,
                       Responder responder) {
  const auto waiting = std::make_shared<Responder>(std::move(responder));
  const ViewRecord* view = membership_->record();
  const bool home_is_away = view == nullptr || !view->view.contains(record.info.home);
  // Who may not do this hears so from the table, without a word to the home.
  if (home_is_away ? lossy || !may_have_unwritten(record) : !may(record, who, Right::kAdmin))
    return remove_written_tree(record, who, /*lossy=*/true, waiting);
  if (home_is_away)
    return waiting->fail(
        make_error(ErrorCode::kUnavailable,
                   quoted(record.name) +
                       " stays attached: programs may have written into files that they "
                       "mapped, and node " +
                       name_of(record.info.home) +
                       ", to whose disk that belongs, is not in the cluster; start gobd there. "
                       "\"gobctl detach "
                       "--lossy\" detaches it all the same, and what is not on the disk is lost",
                   EHOSTDOWN));
  write_tree_back(record, [this, record, who, lossy, waiting](const Status& written) {
    if (written) return remove_written_tree(record, who, lossy, waiting);
    if (lossy) {
      spdlog::warn("{} is detached with losses: {}", quoted(record.name),
                   written.error().message());
      return remove_written_tree(record, who, lossy, waiting);
    }
    waiting->fail(make_error(
        written.error().code,
        quoted(record.name) +
            " stays attached: what programs wrote into files that they mapped does not get to the "
            "disk; mend that and try again (\"gobctl detach --lossy\" detaches it all the same, "
            "and that is lost): " +
            written.error().context,
        written.error().errno_value));
  });
}

// Files have containers as long as some node knows them; that of a mapped one may have more than
// the disk. Of one whose first attachment has ended nobody but its home knows by which others it is
// reached.
bool Node::may_have_unwritten(const ContainerRecord& tree) const {
  for (const ContainerRecord& record : table_->list()) {
    if (record.kind != ContainerKind::kFile || record.info.home != tree.info.home) continue;
    const auto first = file::FileServer::attachment_of(record.source);
    if (first && (*first == tree.info.id || table_->find(*first) == nullptr)) return true;
  }
  return false;
}

void Node::write_tree_back(const ContainerRecord& tree, std::function<void(const Status&)> then) {
  peer::FileRequest request;
  request.set_op(static_cast<std::uint32_t>(file::FileOp::kWriteBack));
  request.set_file(tree.info.id.value());
  const auto told = [this, home = tree.info.home, then](const peer::FileReply& reply) {
    Status written;
    if (reply.error() != 0)
      written = make_error(reply.data().empty() ? ErrorCode::kUnavailable : ErrorCode::kSystem,
                           reply.data().empty()
                               ? "node " + name_of(home) + " was not through with it within " +
                                     std::to_string(config_.file_timeout_ms) +
                                     " ms (file_timeout_ms; try again, it goes on), or went away"
                               : reply.data(),
                           static_cast<int>(reply.error()));
    mailbox_.post_reply([then, written] { then(written); });
  };
  file_client_->call(tree.info.home, std::move(request), told);
}

// What was written between is not kept from the disk either, nor from who asked.
void Node::remove_written_tree(const ContainerRecord& tree, const Credentials& who, bool lossy,
                               const std::shared_ptr<Responder>& responder) {
  container::Actions actions;
  const std::uint64_t id = table_->remove(tree.name, who, actions);
  own_containers_[id] = [this, tree, lossy, responder](const Result<ContainerRecord>& removed) {
    if (!removed) return responder->fail(removed.error());
    if (lossy) return responder->done();
    write_tree_back(tree, [tree, responder](const Status& written) {
      if (written) return responder->done();
      responder->fail(make_error(
          written.error().code,
          quoted(tree.name) +
              " is detached, but what programs wrote into mapped files at that moment is not known "
              "to be on the disk: " +
              written.error().context,
          written.error().errno_value));
    });
  };
  perform(actions);
}

}  // namespace gob
