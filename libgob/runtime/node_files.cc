// Attached files: this node as a home of some and as a user of all.
#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ctime>

#include "libgob/file/mount.h"
#include "libgob/runtime/describe.h"
#include "libgob/runtime/node.h"
#include "libgob/runtime/peer_codec.h"

namespace gob {

namespace {
constexpr std::uint64_t kMaxFileBytes = std::uint64_t{1} << 44;  // of one file
// A file that is read here and there is fetched whole if it takes no more than this share of
// memory.
constexpr std::uint64_t kShareForOneFile = 8;
constexpr std::size_t kMaxFileBytesOnLink = std::size_t{4} << 20;
}  // namespace

// What the file service asks of the table of containers, from its threads.
class Node::Containers final : public file::FileStore {
 public:
  explicit Containers(Node& node) : node_(node) {}

  void provide(const std::string& name, const std::string& source, UniqueFd file,
               std::uint64_t size_bytes, std::function<void(Result<ContainerId>)> done) override {
    const auto fd = std::make_shared<UniqueFd>(std::move(file));
    const bool posted = node_.mailbox_.post([this, name, source, fd, size_bytes, done] {
      node_.make_file_container(name, source, fd, size_bytes, done);
    });
    if (!posted) done(make_error(ErrorCode::kUnavailable, "this node is overloaded", EAGAIN));
  }
  void withdraw(ContainerId, const std::string& name) override {
    node_.mailbox_.post_reply([this, name] { node_.drop_file_container(name); });
  }
  void send(NodeId to, peer::FileBody body) override {
    if (to != node_.self_) return static_cast<void>(node_.send_file_message(to, std::move(body)));
    node_.mailbox_.post_reply([this, told = std::move(body)]() mutable {
      node_.receive_file_message(node_.self_, std::move(told));
    });
  }
  FileData& data() override { return *node_.files_; }

 private:
  Node& node_;
};

// A container for the bytes of one file of this node's disk; programs do not open it by name.
void Node::make_file_container(const std::string& name, const std::string& source,
                               const std::shared_ptr<UniqueFd>& file, std::uint64_t size_bytes,
                               const std::function<void(Result<ContainerId>)>& done) {
  ContainerTable::NewContainer wanted;
  wanted.name = name;
  wanted.size_bytes = kMaxFileBytes;
  wanted.mode = 0;
  wanted.created_unix_ms = static_cast<std::uint64_t>(::time(nullptr)) * 1000;
  wanted.home = self_;
  wanted.kind = ContainerKind::kFile;
  wanted.source = source;
  container::Actions actions;
  const std::uint64_t id = table_->create(wanted, {}, actions);
  own_containers_[id] = [this, file, size_bytes, done](const Result<ContainerRecord>& made) {
    if (!made) return done(made.error());
    files_->bind(made->info.id, std::move(*file), size_bytes,
                 [done, container = made->info.id](const Status& bound) {
                   done(bound ? Result<ContainerId>(container) : bound.error());
                 });
  };
  perform(actions);
}

void Node::drop_file_container(const std::string& name) {
  if (table_->find(name) == nullptr) return;
  container::Actions actions;
  table_->remove(name, {}, actions);
  perform(actions);
}

// A container of an earlier life of this node. Other nodes may have pages of it that are newer than
// the file: they are written, and it is removed.
void Node::recover_file(const ContainerRecord& record) {
  const ContainerId id = record.info.id;
  const auto drop = [this, name = record.name, held = file_server_->reopened(record.source)](
                        const Status& written, bool removed = false) {
    if (!written)
      spdlog::error(
          "what programs wrote into the file of container {} while this node was away is "
          "lost: {}",
          quoted(name), written.error().message());
    if (held) held->end(removed ? Status() : written);
    mailbox_.post_reply([this, name] { drop_file_container(name); });
  };
  file_server_->reopen(record.source, [this, id, drop](Result<UniqueFd> file) {
    // Who removed it wants nothing of it on the disk.
    if (!file) return drop(file.error(), file.error().code == ErrorCode::kNotFound);
    struct stat status {};
    if (::fstat(file->get(), &status) != 0) return drop(system_error("its length is not known"));
    const auto same = std::make_shared<UniqueFd>(::fcntl(file->get(), F_DUPFD_CLOEXEC, 0));
    if (!*same) return drop(system_error("it cannot be synced"));
    const auto sync = [this, id, same, drop](const Status& written) {
      file_server_->sync_reopened(same, [this, id, written, drop](const Status& synced) {
        // What is still stored into it is lost with it, and must not come over what is written to
        // the file from now on.
        files_->resize(id, [] { return std::uint64_t{0}; });
        drop(written ? synced : written);
      });
    };
    files_->bind(id, std::move(*file), static_cast<std::uint64_t>(status.st_size),
                 [this, id, sync](const Status& bound) {
                   if (!bound) return sync(bound);
                   files_->write_back(id, {}, sync);
                 });
  });
}

Status Node::open_files() {
  file_store_ = std::make_unique<Containers>(*this);
  file_server_ = std::make_unique<file::FileServer>(
      self_, transport_->incarnation(), std::chrono::milliseconds(config_.file_timeout_ms),
      *file_store_);
  if (Status status = file_server_->start(); !status) return status;
  file_client_ = std::make_unique<file::FileClient>(
      std::chrono::milliseconds(config_.file_timeout_ms),
      [this](NodeId to, peer::FileBody body) { return send_file_message(to, std::move(body)); });
  file_client_->node_up(self_);
  if (config_.mount.empty()) return {};
  Result<std::unique_ptr<file::Mount>> mount = file::Mount::open(
      {config_.mount, "gob:" + config_.cluster, self_, config_.budget_bytes / kShareForOneFile},
      *file_client_, *files_);
  if (!mount) return mount.error();
  mount_ = std::move(*mount);
  // The client ends before the mount does.
  file_client_->set_names({[this](NodeId node) { return name_of(node); },
                           [this](const file::RemoteFile& file) { return mount_->path_of(file); }});
  spdlog::info("files appear at {}: {}", config_.mount, file::Mount::describe_data_path());
  return {};
}

void Node::stop_files() {
  if (mount_ != nullptr) mount_->stop();
  if (file_server_ != nullptr) file_server_->stop();
}

// The client answers the mount's requests when it goes.
void Node::close_files() {
  file_client_.reset();
  mount_.reset();
  file_server_.reset();
}

// From any thread. Only requests are refused when there is too much to do: their programs get an
// error. Whatever else is lost, such as a word about a lease, would be waited for.
bool Node::send_file_message(NodeId to, peer::FileBody body) {
  if (to != self_) {
    const bool refusable = body.has_request();
    auto queue = [this, to, bytes = encode_peer_message(std::move(body))]() mutable {
      queue_for_peer(to, std::move(bytes));
    };
    return refusable ? mailbox_.post(std::move(queue)) : mailbox_.post_reply(std::move(queue));
  }
  switch (body.body_case()) {
    case peer::FileBody::kRequest:
      file_server_->handle(
          self_, std::move(*body.mutable_request()),
          [this](const peer::FileReply& reply) { file_client_->deliver(self_, reply); });
      return true;
    case peer::FileBody::kForget:
      file_server_->forget(self_, body.forget());
      return true;
    case peer::FileBody::kCancel:
      // On another thread: the answer may come at once, and its receiver may be in the middle of
      // asking for this.
      return mailbox_.post_reply(
          [this, id = body.cancel().id()] { file_server_->cancel(self_, id); });
    case peer::FileBody::kRevoked:
      file_server_->revoked(self_, body.revoked());
      return true;
    case peer::FileBody::kReply:
    case peer::FileBody::kRevoke:
    case peer::FileBody::kGone:
    case peer::FileBody::BODY_NOT_SET:
      break;
  }
  return false;
}

void Node::queue_for_peer(NodeId to, std::string bytes) {
  file_messages_[to].push_back(std::move(bytes));
  send_queued();
}

// Also called in every round: the loop wakes when a link can take more.
void Node::send_queued() {
  for (auto it = file_messages_.begin(); it != file_messages_.end();) {
    auto& [to, messages] = *it;
    while (!messages.empty() && channel_->queued_bytes(to) < kMaxFileBytesOnLink) {
      send_to_peer(to, messages.front());
      messages.pop_front();
    }
    it = messages.empty() ? file_messages_.erase(it) : std::next(it);
  }
}

void Node::receive_file_message(NodeId from, peer::FileBody body) {
  switch (body.body_case()) {
    case peer::FileBody::kRequest:
      return file_server_->handle(from, std::move(*body.mutable_request()),
                                  [this, from](peer::FileReply reply) {
                                    peer::FileBody answer;
                                    answer.mutable_reply()->Swap(&reply);
                                    static_cast<void>(send_file_message(from, std::move(answer)));
                                  });
    case peer::FileBody::kReply:
      return file_client_->deliver(from, body.reply());
    case peer::FileBody::kForget:
      return file_server_->forget(from, body.forget());
    case peer::FileBody::kCancel:
      return file_server_->cancel(from, body.cancel().id());
    case peer::FileBody::kRevoke:
      return give_lease_back(from, body.revoke());
    case peer::FileBody::kRevoked:
      return file_server_->revoked(from, body.revoked());
    case peer::FileBody::kGone:
      if (mount_ != nullptr) mount_->forget_gone(from, body.gone());
      return;
    case peer::FileBody::BODY_NOT_SET:
      break;
  }
}

void Node::give_lease_back(NodeId home, const peer::FileRevoke& revoke) {
  if (mount_ != nullptr) return mount_->revoke(home, revoke);
  file_client_->tell_revoked({home, revoke.incarnation(), revoke.file()}, revoke.number());
}

void Node::add_tree(const ContainerRecord& record) {
  trees_.insert(record.info.id);
  if (record.info.home == self_) file_server_->attach(record.info.id, record.source);
  if (mount_ != nullptr) mount_->attach(record.info.id, record.name, record.info.home);
  spdlog::info("{} shows {} of node {}", quoted(record.name), quoted(record.source),
               name_of(record.info.home));
}

void Node::remove_tree(ContainerId id) {
  if (mount_ != nullptr) mount_->detach(id);
  file_server_->detach(id);
  spdlog::info("container {} detached", id.value());
}

void Node::attach(const PeerCredentials& peer, ClientId client, const control::Attach& request,
                  Responder responder) {
  if (peer.uid != 0 && peer.uid != ::geteuid())
    return responder.fail(make_error(ErrorCode::kPermissionDenied,
                                     "only root and the user that runs gobd may attach files",
                                     EPERM));
  if (request.segment_key() != 0 || request.link())
    return attach_segment(request, std::move(responder));
  // The disk is looked at on another thread: it may be slow.
  const auto waiting = std::make_shared<Responder>(std::move(responder));
  const Credentials who = credentials(peer);
  ContainerTable::NewContainer wanted;
  wanted.name = request.name();
  wanted.mode = 0755;
  wanted.created_unix_ms = static_cast<std::uint64_t>(::time(nullptr)) * 1000;
  wanted.home = self_;
  wanted.kind = ContainerKind::kTree;
  wanted.source = request.path();
  const auto create = [this, waiting, wanted, who, client](const Status& there) {
    if (!there) return waiting->fail(there.error());
    container::Actions actions;
    const std::uint64_t id = table_->create(wanted, who, actions);
    await_table(id, client, {}, std::move(*waiting), actions);
  };
  file_server_->probe(request.path(), request.folder(), [this, create](const Status& there) {
    static_cast<void>(mailbox_.post([create, there] { create(there); }));
  });
}

}  // namespace gob
