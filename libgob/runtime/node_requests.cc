// Programs' and gobctl's requests.
#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <ctime>

#include "libgob/base/file_limit.h"
#include "libgob/file/mount.h"
#include "libgob/runtime/control_wire.h"
#include "libgob/runtime/describe.h"
#include "libgob/runtime/node.h"

namespace gob {

namespace {

constexpr std::size_t kMaxMappingsOfAClient = 4096;
constexpr int kSpareFds = 8;

}  // namespace

// True, and answered, while this node cannot serve.
bool Node::not_serving(Responder& responder) const {
  if (serving_ != Epoch{} && !leaving_) return false;
  responder.fail(make_error(ErrorCode::kUnavailable,
                            leaving_
                                ? "this node is leaving the cluster"
                                : "this node is not serving yet: " + membership_->waiting_for(),
                            leaving_ ? ESHUTDOWN : EAGAIN));
  return true;
}

void Node::on_request(ClientId client, const PeerCredentials& peer, const control::Request& request,
                      std::vector<UniqueFd> fds, Responder responder) {
  clients_.try_emplace(client);
  switch (request.body_case()) {
    case control::Request::kHello:
      return hello(std::move(responder));
    case control::Request::kStat:
      return stat(request.stat(), std::move(responder));
    case control::Request::kNodes:
      return nodes(std::move(responder));
    case control::Request::kLeave:
      return leave(peer, std::move(responder));
    case control::Request::kUnmapContainer:
      return unmap_container(client, request.unmap_container(), std::move(responder));
    // As accesses through a mapping: they wait while this node has no view.
    case control::Request::kTakePages:
      return take_pages(client, request.take_pages(), std::move(responder));
    case control::Request::kPutPages:
      return put_pages(client, request.put_pages(), std::move(responder));
    case control::Request::kCopyPages:
      return copy_pages(client, request.copy_pages(), std::move(responder));
    case control::Request::BODY_NOT_SET:
      return responder.fail(make_error(ErrorCode::kUnsupported,
                                       "this gobd does not know the request; is it older than the "
                                       "program?",
                                       EOPNOTSUPP));
    default:
      break;
  }
  if (not_serving(responder)) return;
  switch (request.body_case()) {
    case control::Request::kCreateContainer:
      return create_container(client, peer, request.create_container(), std::move(responder));
    case control::Request::kOpenContainer:
      return open_container(client, peer, request.open_container(), std::move(responder));
    case control::Request::kRemoveContainer:
      return remove_container(client, peer, request.remove_container(), std::move(responder));
    case control::Request::kListContainers:
      return list_containers(std::move(responder));
    case control::Request::kMapContainer:
      return map_container(client, request.map_container(), std::move(responder));
    case control::Request::kMappingReady:
      return mapping_ready(client, request.mapping_ready(), std::move(fds), std::move(responder));
    case control::Request::kLendBuffer:
      return lend_buffer(client, request.lend_buffer(), std::move(fds), std::move(responder));
    case control::Request::kServeProcesses:
      return serve_processes(peer, client, request.serve_processes(), std::move(fds),
                             std::move(responder));
    case control::Request::kAttach:
      return attach(peer, client, request.attach(), std::move(responder));
    case control::Request::kDetach:
      return detach(peer, client, request.detach(), std::move(responder));
    case control::Request::kOpenFile:
      return open_file(client, request.open_file(), std::move(responder));
    case control::Request::kSync:
      return sync(peer, request.sync(), std::move(responder));
    case control::Request::kFlush:
      return flush(peer, request.flush(), std::move(responder));
    default:
      return synchronise(client, request, std::move(responder));
  }
}

void Node::on_disconnect(ClientId client) {
  const auto found = clients_.find(client);
  if (found == clients_.end()) return;
  for (MappingId id : std::set<MappingId>(found->second.mappings)) end_mapping(id, true);
  clients_.erase(client);
  SyncService::Out out;
  sync_.client_gone(client.value(), out);
  perform_sync(out);
}

void Node::hello(Responder responder) {
  control::Reply reply;
  control::HelloReply& hello = *reply.mutable_hello();
  hello.set_protocol_version(kControlVersion);
  hello.set_gobd_version(GOB_VERSION);
  hello.set_cluster_name(config_.cluster);
  hello.set_node_id(self_.value());
  hello.set_node_name(config_.node);
  hello.set_page_size(kPageSize);
  for (const NodeConfig& node : config_.nodes) hello.add_node_names(node.name);
  hello.set_mount(config_.mount);
  responder.reply(std::move(reply));
}

void Node::create_container(ClientId client, const PeerCredentials& peer,
                            const control::CreateContainer& request, Responder responder) {
  ContainerTable::NewContainer wanted;
  wanted.name = request.name();
  wanted.size_bytes = request.size_bytes();
  wanted.mode = request.mode();
  wanted.created_unix_ms = static_cast<std::uint64_t>(::time(nullptr)) * 1000;
  container::Actions actions;
  const std::uint64_t id = table_->create(wanted, credentials(peer), actions);
  // Who makes a container may use it, whatever its mode says, as with open(2) and O_CREAT.
  await_table(id, client, {true, true}, std::move(responder), actions);
}

void Node::open_container(ClientId client, const PeerCredentials& peer,
                          const control::OpenContainer& request, Responder responder) {
  std::vector<Right> rights;
  if (request.read()) rights.push_back(Right::kRead);
  if (request.write()) rights.push_back(Right::kWrite);
  const ContainerRecord* record = table_->find(request.name());
  if (record != nullptr && record->kind == ContainerKind::kTree)
    return responder.fail(make_error(
        ErrorCode::kInvalidArgument,
        quoted(request.name()) + " is a folder of files and has no memory of its own", EISDIR));
  if (record != nullptr && record->kind == ContainerKind::kProcess && request.write())
    return responder.fail(make_error(
        ErrorCode::kPermissionDenied,
        quoted(request.name()) + " is the memory of stopped processes: it is only read", EACCES));
  container::Actions actions;
  const std::uint64_t id = table_->open(request.name(), credentials(peer), rights, actions);
  await_table(id, client, {request.read(), request.write()}, std::move(responder), actions);
}

// The descriptor that the ticket was given for is open for reading and writing.
void Node::open_file(ClientId client, const control::OpenFile& request, Responder responder) {
  std::optional<file::MappableFile> file;
  if (mount_ != nullptr && request.ticket_size() == 2)
    file = mount_->take_ticket({request.ticket(0), request.ticket(1)});
  const ContainerRecord* record = file ? table_->find(file->container) : nullptr;
  if (record == nullptr)
    return responder.fail(make_error(ErrorCode::kNotFound,
                                     "cannot open a file's container: this gobd gave no such "
                                     "ticket, or the file is gone",
                                     ENOENT));
  clients_[client].open[file->container] = {true, true};
  control::Reply reply;
  describe(*record, *reply.mutable_container()->mutable_container());
  reply.mutable_container()->set_file_bytes(file->size_bytes);
  responder.reply(std::move(reply));
}

void Node::remove_container(ClientId client, const PeerCredentials& peer,
                            const control::RemoveContainer& request, Responder responder) {
  const ContainerRecord* record = table_->find(request.name());
  if (record != nullptr && record->kind != ContainerKind::kMemory &&
      record->kind != ContainerKind::kProcess)
    return responder.fail(make_error(ErrorCode::kInvalidArgument,
                                     quoted(request.name()) +
                                         " is an attached segment or file; \"gobctl detach\" "
                                         "takes it away and leaves the bytes",
                                     EINVAL));
  container::Actions actions;
  const std::uint64_t id = table_->remove(request.name(), credentials(peer), actions);
  await_table(id, client, {}, std::move(responder), actions);
}

void Node::await_table(std::uint64_t request, ClientId client, Opened rights, Responder responder,
                       const container::Actions& actions) {
  table_requests_.emplace(request, TableRequest{std::move(responder), client, rights});
  perform(actions);
}

void Node::answer_table(const container::Reply& answer) {
  if (auto made = own_containers_.extract(answer.request)) return made.mapped()(answer.result);
  const auto found = table_requests_.find(answer.request);
  if (found == table_requests_.end()) return;
  TableRequest asked = std::move(found->second);
  table_requests_.erase(found);
  if (!answer.result) return asked.responder.fail(answer.result.error());
  const auto client = clients_.find(asked.client);
  if (client != clients_.end() && (asked.opens.read || asked.opens.write)) {
    Opened& opened = client->second.open[answer.result->info.id];
    opened.read |= asked.opens.read;
    opened.write |= asked.opens.write;
  }
  control::Reply reply;
  describe(*answer.result, *reply.mutable_container()->mutable_container());
  asked.responder.reply(std::move(reply));
}

void Node::list_containers(Responder responder) {
  control::Reply reply;
  auto* list = reply.mutable_list_containers();
  for (const ContainerRecord& record : table_->list()) describe(record, *list->add_containers());
  responder.reply(std::move(reply));
}

void Node::map_container(ClientId client, const control::MapContainer& request,
                         Responder responder) {
  const ContainerId id{request.container_id()};
  Client& state = clients_[client];
  const auto opened = state.open.find(id);
  const auto local = containers_.find(id);
  if (opened == state.open.end() || local == containers_.end())
    return responder.fail(make_error(ErrorCode::kNotFound,
                                     "cannot map container " + std::to_string(id.value()) +
                                         ": this connection has not opened it, or it was removed",
                                     ENOENT));
  if (!opened->second.read || (request.writable() && !opened->second.write))
    return responder.fail(make_error(
        ErrorCode::kPermissionDenied,
        "cannot map container " + std::to_string(id.value()) + ": it was opened with fewer rights",
        EACCES));
  if (const Linkable* linked = segments_ == nullptr ? nullptr : segments_->of(id))
    return responder.fail(make_error(ErrorCode::kUnavailable,
                                     "cannot map container " + std::to_string(id.value()) + ": " +
                                         linked->name() +
                                         " of this node is linked to it; use that, or detach it",
                                     EBUSY));
  const FramePool& pool = *local->second.pool;
  if (request.pages() == 0 || !pool.contains(PageIndex{request.first_page()}, request.pages()))
    return responder.fail(make_error(ErrorCode::kInvalidArgument,
                                     "cannot map " + std::to_string(request.pages()) +
                                         " pages from page " +
                                         std::to_string(request.first_page()) +
                                         ": the container has " + std::to_string(pool.pages()),
                                     EINVAL));
  if (state.mappings.size() >= kMaxMappingsOfAClient)
    return responder.fail(
        make_error(ErrorCode::kNoSpace, "this connection has too many mappings", EMFILE));

  std::vector<UniqueFd> fds;
  const Result<int> memory = pool.fd();
  if (!memory) return responder.fail(memory.error());
  fds.emplace_back(::fcntl(*memory, F_DUPFD_CLOEXEC, 0));
  if (!fds.back()) return responder.fail(system_error("cannot hand out the container's memory"));
  // An answer now, while there is still one to be had: what makes the mapping ready comes with
  // descriptors, and if there were no room for them then, the connection would end.
  if (is_among_last(fds.back().get(), kSpareFds))
    return responder.fail(make_error(
        ErrorCode::kNoSpace, "gobd has no file descriptor left for another mapping", EMFILE));
  control::Reply reply;
  if (uffd_device_) {
    fds.emplace_back(::fcntl(uffd_device_.get(), F_DUPFD_CLOEXEC, 0));
    if (!fds.back()) return responder.fail(system_error("cannot hand out /dev/userfaultfd"));
    reply.mutable_map_container()->set_has_uffd_device(true);
  }
  const MappingId mapping{next_mapping_++};
  LocalMapping& made = mappings_[mapping];
  made.client = client;
  made.config = {mapping,           id, 0, PageIndex{request.first_page()}, request.pages(),
                 request.writable()};
  state.mappings.insert(mapping);
  reply.mutable_map_container()->set_mapping_id(mapping.value());
  responder.reply(std::move(reply), std::move(fds));
}

void Node::mapping_ready(ClientId client, const control::MappingReady& request,
                         std::vector<UniqueFd> fds, Responder responder) {
  const MappingId id{request.mapping_id()};
  const auto found = mappings_.find(id);
  if (found == mappings_.end() || found->second.client != client || found->second.ready)
    return responder.fail(make_error(
        ErrorCode::kInvalidArgument,
        "no mapping " + std::to_string(id.value()) + " of this connection waits to become ready",
        EINVAL));
  if (fds.empty() || fds.size() > 2)
    return responder.fail(make_error(
        ErrorCode::kInvalidArgument,
        "a mapping becomes ready with one userfaultfd, and a socket if there is to be news",
        EINVAL));
  LocalMapping& local = found->second;
  local.config.address = request.address();
  Result<std::shared_ptr<Mapping>> mapping = Mapping::create(
      std::move(fds[0]), local.config, fds.size() == 2 ? std::move(fds[1]) : UniqueFd());
  if (!mapping) return responder.fail(mapping.error());
  local.ready = true;
  local.waiting.emplace(std::move(responder));
  local.shards_missing = config_.shards;
  // The one that polls comes last: faults may wait already, and it passes them on to the others.
  for (unsigned i = 1; i <= config_.shards; ++i) {
    const bool polls = i == config_.shards;
    const std::uint64_t to = (id.value() + i) % config_.shards;
    const bool posted = shards_[to]->post([this, id, polls, made = *mapping](Shard& shard) {
      const Status status = shard.add_mapping(made, polls);
      static_cast<void>(mailbox_.post([this, id, status] { mapping_added(id, status); }));
    });
    if (!posted)
      mapping_added(id, make_error(ErrorCode::kUnavailable, "this node is overloaded", EAGAIN));
  }
}

void Node::mapping_added(MappingId id, const Status& status) {
  const auto found = mappings_.find(id);
  if (found == mappings_.end()) return;  // the program went away meanwhile
  LocalMapping& local = found->second;
  if (!status) local.status = status;
  if (--local.shards_missing != 0 || !local.waiting) return;
  Responder responder = std::move(*local.waiting);
  local.waiting.reset();
  if (local.status) return responder.done();
  responder.fail(local.status.error());
  end_mapping(id);
}

void Node::unmap_container(ClientId client, const control::UnmapContainer& request,
                           Responder responder) {
  const MappingId id{request.mapping_id()};
  const auto found = mappings_.find(id);
  if (found == mappings_.end() || found->second.client != client)
    return responder.fail(make_error(ErrorCode::kNotFound,
                                     "this connection has no mapping " + std::to_string(id.value()),
                                     EINVAL));
  end_mapping(id);
  // All its events have been read when the answer comes: whoever hears their news knows then
  // whether there are children, unless the answer says that more follows.
  const auto waiting = std::make_shared<Responder>(std::move(responder));
  const auto answer = [waiting](bool news_follow) {
    control::Reply reply;
    reply.mutable_unmap()->set_news_follow(news_follow);
    waiting->reply(std::move(reply));
  };
  const auto& polling = shards_[id.value() % config_.shards];
  if (!polling->post([this, id, answer](Shard& shard) {
        const bool follow = shard.has_unsent_news(id);
        static_cast<void>(mailbox_.post_reply([answer, follow] { answer(follow); }));
      }))
    answer(true);
}

void Node::end_mapping(MappingId id, bool lost) {
  const auto found = mappings_.find(id);
  if (found == mappings_.end()) return;
  const auto client = clients_.find(found->second.client);
  if (client != clients_.end()) client->second.mappings.erase(id);
  mappings_.erase(found);
  each_shard([id, lost](Shard& shard) { shard.remove_mapping(id, lost); });
}

void Node::flush(const PeerCredentials& peer, const control::Flush& request, Responder responder) {
  const ContainerRecord* record = table_->find(request.name());
  if (record == nullptr)
    return responder.fail(make_error(ErrorCode::kNotFound,
                                     "there is no container " + quoted(request.name()), ENOENT));
  if (!may(*record, credentials(peer), Right::kAdmin))
    return responder.fail(
        make_error(ErrorCode::kPermissionDenied,
                   "only its owner and root may flush container " + quoted(request.name()), EPERM));
  struct Gathering {
    Responder responder;
    unsigned missing;
    std::uint64_t pages = 0;
  };
  const auto gathering = std::make_shared<Gathering>(std::move(responder), config_.shards);
  each_shard([this, gathering, id = record->info.id](Shard& shard) {
    const std::uint64_t pages = shard.flush_container(id);
    static_cast<void>(mailbox_.post([gathering, pages] {
      gathering->pages += pages;
      if (--gathering->missing != 0) return;
      control::Reply reply;
      reply.mutable_flush()->set_flushed_pages(gathering->pages);
      gathering->responder.reply(std::move(reply));
    }));
  });
}

void Node::leave(const PeerCredentials& peer, Responder responder) {
  if (peer.uid != 0 && peer.uid != ::geteuid())
    return responder.fail(make_error(ErrorCode::kPermissionDenied,
                                     "only root and the user that runs gobd may make it leave",
                                     EPERM));
  leave_requests_.push_back(std::move(responder));
  ask_to_leave("asked to leave by gobctl");
}

}  // namespace gob
