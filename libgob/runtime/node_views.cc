// What the pure machines of the control thread want done: views, containers, synchronisation,
// leaving.
#include <spdlog/spdlog.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>

#include "libgob/base/size.h"
#include "libgob/runtime/node.h"
#include "libgob/runtime/peer_codec.h"

namespace gob {

namespace {
constexpr std::uint64_t kLeaveTryMs = 20;  // between offers to nodes that had no room
}  // namespace

void Node::step_membership(const membership::Event& event) {
  membership::Actions actions;
  membership_->step(event, now_ms(), actions);
  for (const membership::Action& action : actions) perform(action);
}

void Node::perform(const membership::Action& action) {
  std::visit(
      [&](const auto& a) {
        using A = std::decay_t<decltype(a)>;
        if constexpr (std::is_same_v<A, membership::Send>) {
          send_to_peer(a.to, encode_peer_message(a.message));
        } else if constexpr (std::is_same_v<A, membership::InstallView>) {
          install_view(a.record, a.blob);
        } else if constexpr (std::is_same_v<A, membership::Fence>) {
          finish(NodeEnd::kFenced, "out of the cluster: " + a.reason +
                                       "; programs here get SIGBUS, restart this node to join "
                                       "again, empty");
        } else {
          static_assert(std::is_same_v<A, membership::Left>);
          finish(NodeEnd::kLeft, "left the cluster in good order");
        }
      },
      action);
}

void Node::install_view(const ViewRecord& record, const std::string& blob) {
  std::string members;
  for (NodeId node : record.view.members) members += (members.empty() ? "" : " ") + name_of(node);
  spdlog::info("view {}: {}", record.view.epoch.value(), members);
  // The cores must know every container before they hear what others hold of it.
  container::Actions actions;
  if (const Status status = table_->install_view(record.view, blob, actions); !status)
    return finish(NodeEnd::kFailed, status.error().message());
  perform(actions);
  each_shard([view = record.view](Shard& shard) { shard.feed(event::NewView{view}); });
  SyncService::Out out;
  sync_.install_view(record.view, out);
  perform_sync(out);
}

void Node::perform(const container::Actions& actions) {
  for (const container::Action& action : actions) perform(action);
  // All attachments first: a file may be found again by one that is younger than its container.
  for (const container::Action& action : actions)
    if (const auto* added = std::get_if<container::Added>(&action);
        added != nullptr && is_of_earlier_life(added->record))
      recover_file(added->record);
}

void Node::perform(const container::Action& action) {
  std::visit(
      [&](const auto& a) {
        using A = std::decay_t<decltype(a)>;
        if constexpr (std::is_same_v<A, container::Send>) {
          send_to_peer(a.to, encode_peer_message(a.message));
        } else if constexpr (std::is_same_v<A, container::Added>) {
          add_local(a.record);
        } else if constexpr (std::is_same_v<A, container::Removed>) {
          if (trees_.erase(a.id) != 0) return remove_tree(a.id);
          containers_.erase(a.id);
          files_->remove_container(a.id);
          if (segments_ != nullptr) segments_->removed(a.id);
          each_shard([id = a.id](Shard& shard) { shard.remove_container(id); });
          spdlog::debug("container {} removed", a.id.value());
        } else if constexpr (std::is_same_v<A, container::Violation>) {
          spdlog::error("node {}: {}; dropped", name_of(a.from), a.what);
          channel_->drop(a.from, DownReason::kProtocol, a.what);
        } else {
          static_assert(std::is_same_v<A, container::Reply>);
          answer_table(a);
        }
      },
      action);
}

void Node::add_local(const ContainerRecord& record) {
  if (record.kind == ContainerKind::kTree) return add_tree(record);
  Result<FramePool> pool = FramePool::create(record.name, record.info.pages);
  if (!pool) return finish(NodeEnd::kFailed, pool.error().message());
  // Of files many are made, and most nodes use few: what keeps a descriptor is what is used.
  if (record.kind != ContainerKind::kFile)
    if (const auto made = pool->fd(); !made) {
      if (made.error().code != ErrorCode::kNoSpace)
        return finish(NodeEnd::kFailed, made.error().message());
      // Whoever wants to use it here will hear of it, if there is none then.
      spdlog::warn("{}", made.error().message());
    }
  auto shared = std::make_shared<const FramePool>(std::move(*pool));
  containers_[record.info.id] = LocalContainer{shared, is_file(record.info)};
  files_->add_container(record.info);
  // What its home has not given yet, it will: the segment is being taken in, or processes stopped.
  const bool awaits =
      (record.kind == ContainerKind::kSegment || record.kind == ContainerKind::kProcess) &&
      record.info.home == self_ && record.creator.incarnation == transport_->incarnation();
  each_shard([info = record.info, shared, awaits](Shard& shard) {
    shard.add_container(info, shared, awaits);
  });
  const bool file = record.kind == ContainerKind::kFile;
  spdlog::log(file ? spdlog::level::debug : spdlog::level::info, "container {} {}: {}",
              record.info.id.value(), quoted(record.name), format_size(record.size_bytes));
}

// A file's container that this node made before it died.
bool Node::is_of_earlier_life(const ContainerRecord& record) const {
  return record.kind == ContainerKind::kFile && record.info.home == self_ &&
         record.creator.incarnation != transport_->incarnation() &&
         table_->find(record.info.id) != nullptr;
}

void Node::perform_sync(const SyncService::Out& out) {
  for (const auto& [to, message] : out.messages) send_to_peer(to, encode_peer_message(message));
  for (const SyncService::Answer& answer : out.answers) answer_sync(answer);
}

void Node::shard_serves(unsigned shard, Epoch epoch) {
  shard_epochs_[shard] = epoch;
  if (shard_epochs_.size() != config_.shards) return;
  Epoch oldest = epoch;
  for (const auto& [index, served] : shard_epochs_) oldest = std::min(oldest, served);
  if (oldest <= serving_) return;
  serving_ = oldest;
  step_membership(membership::Serving{serving_});
  if (table_->size() != 0) step_membership(membership::Prune{table_->oldest()});
  spdlog::info("serving view {}", serving_.value());
  if (!ready_) return;
  ready_();
  ready_ = nullptr;
}

void Node::each_shard(const std::function<void(Shard&)>& work) {
  for (const auto& shard : shards_)
    if (!shard->post(work))
      finish(NodeEnd::kFailed, "a shard is overloaded and missed what it must know");
}

// SIGTERM, SIGINT: once in good order, twice at once.
void Node::stop_asked() {
  signalfd_siginfo info{};
  static_cast<void>(::read(stop_fd_, &info, sizeof info));
  if (leaving_ || !leave_wanted_.empty())
    return finish(NodeEnd::kLeft, "stopped before all pages were handed over");
  ask_to_leave("asked to stop");
}

// A program of this node that cannot do without it for the moment, such as gobmigrate, holds a lock
// whose name says so.
bool Node::has_to_stay() const {
  return std::ranges::any_of(clients_, [](const auto& each) { return !each.second.stays.empty(); });
}

void Node::ask_to_leave(const std::string& why) {
  if (leaving_ || !leave_wanted_.empty()) return;
  leave_wanted_ = why;
  leave_deadline_ms_ = now_ms() + config_.leave_timeout_ms;
  if (!has_to_stay()) return begin_leaving(why);
  for (const auto& [id, client] : clients_)
    for (const std::string& lock : client.stays)
      spdlog::info("{}: not before '{}' is released, or leave_timeout_ms has passed", why, lock);
}

void Node::begin_leaving(const std::string& why) {
  if (leaving_) return;
  leaving_ = true;
  leave_deadline_ms_ = now_ms() + config_.leave_timeout_ms;
  next_leave_try_ms_ = 0;
  // Segments keep their bytes, and those of files go to the disk, while all pages can still be had.
  const auto then = [this, why] {
    file_server_->write_all_back(
        [this, why] { static_cast<void>(mailbox_.post_reply([this, why] { hand_over(why); })); });
  };
  if (segments_ == nullptr) return then();
  cut_segments(then);
}

void Node::hand_over(const std::string& why) {
  const ViewRecord* record = membership_->record();
  if (record == nullptr || record->view.members.size() < 2)
    return finish(NodeEnd::kLeft, why + "; no other node is there to take pages over");
  spdlog::info("{}: handing pages to the other nodes", why);
  files_written_ = true;
  keep_leaving();
}

void Node::keep_leaving() {
  if (end_) return;
  if (!files_written_) {
    if (now_ms() >= leave_deadline_ms_)
      finish(NodeEnd::kLeft,
             "could not write mapped files within leave_timeout_ms: what is not written is lost");
    return;
  }
  const ViewRecord* record = membership_->record();
  if (record != nullptr && record->view.members.size() == 1 && record->view.contains(self_))
    return finish(NodeEnd::kLeft, "the last node of the cluster: its pages end with it");
  if (now_ms() >= leave_deadline_ms_)
    return finish(NodeEnd::kLeft,
                  handed_over_
                      ? "the others did not let go within leave_timeout_ms; leaving all the same"
                      : "could not hand over all pages within leave_timeout_ms: the rest is lost");
  if (handed_over_ || now_ms() < next_leave_try_ms_) return;
  next_leave_try_ms_ = now_ms() + kLeaveTryMs;
  each_shard([](Shard& shard) { shard.feed(event::Leave{}); });
}

void Node::shard_left(unsigned shard, bool stranded) {
  if (stranded)
    return finish(NodeEnd::kLeft, "every node of the cluster leaves: its pages end with it");
  left_shards_.insert(shard);
  if (left_shards_.size() != config_.shards || handed_over_) return;
  handed_over_ = true;
  spdlog::info("all pages are handed over");
  step_membership(membership::Leave{});
}

}  // namespace gob
