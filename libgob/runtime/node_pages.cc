// Programs that move bytes of containers without a mapping, in bulk: what a mapping costs for each
// page (a fault, an entry in the page tables, and its first use) is not paid. Memory of processes
// that stand still, as a container.
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <iterator>

#include "libgob/linker/process_memory.h"
#include "libgob/runtime/describe.h"
#include "libgob/runtime/node.h"

namespace gob {

namespace {
constexpr std::uint64_t kMostPages = 256;  // of one request: a shard moves them in one go
}

void Node::lend_buffer(ClientId client, const control::LendBuffer& request,
                       std::vector<UniqueFd> fds, Responder responder) {
  Client& state = clients_[client];
  if (state.buffer != nullptr)
    return responder.fail(make_error(ErrorCode::kAlreadyExists,
                                     "this connection has lent a buffer already", EBUSY));
  if (fds.size() != 1)
    return responder.fail(make_error(ErrorCode::kInvalidArgument,
                                     "a buffer is lent with one descriptor, of its memory",
                                     EINVAL));
  auto buffer = LentBuffer::map(fds[0], request.bytes());
  if (!buffer) return responder.fail(buffer.error());
  state.buffer = std::move(*buffer);
  responder.done();
}

// Where they are in the buffer, if the program may use these pages.
Result<std::span<std::byte>> Node::find_pages(ClientId client, std::uint32_t container,
                                              std::uint64_t first, std::uint64_t pages,
                                              std::uint64_t at, bool copy) {
  const std::string what = "cannot reach pages of container " + std::to_string(container) + ": ";
  const ContainerId id{container};
  const Client& state = clients_[client];
  const auto opened = state.open.find(id);
  const auto local = containers_.find(id);
  if (opened == state.open.end() || local == containers_.end())
    return make_error(ErrorCode::kNotFound,
                      what + "this connection has not opened it, or it was removed", ENOENT);
  if (!opened->second.read || (!copy && !opened->second.write))
    return make_error(ErrorCode::kPermissionDenied,
                      what + "it was not opened for reading" + (copy ? "" : " and writing"),
                      EACCES);
  if (!copy && local->second.has_device)
    return make_error(ErrorCode::kInvalidArgument, what + "it is no memory container", EINVAL);
  if (pages == 0 || pages > kMostPages || !local->second.pool->contains(PageIndex{first}, pages))
    return make_error(ErrorCode::kInvalidArgument,
                      what + "not " + std::to_string(pages) + " pages from page " +
                          std::to_string(first) + ": it has " +
                          std::to_string(local->second.pool->pages()) + ", and " +
                          std::to_string(kMostPages) + " travel at once",
                      EINVAL);
  const std::span<std::byte> bytes =
      state.buffer == nullptr ? std::span<std::byte>() : state.buffer->pages(at, pages);
  if (bytes.empty())
    return make_error(ErrorCode::kInvalidArgument,
                      what + "this connection has lent no buffer with so many bytes", EINVAL);
  // Each of them has a place of its own there, or the last to come would be in vain.
  if (state.moving + pages > state.buffer->all_pages())
    return make_error(ErrorCode::kUnavailable,
                      what + "this connection waits for as many pages as its buffer has room for",
                      EBUSY);
  return bytes;
}

// The buffer stays until the shards are done with it, whatever becomes of the program.
FileData::Done Node::answer_pages(ClientId client, std::uint64_t pages, Responder responder) {
  const auto waiting = std::make_shared<Responder>(std::move(responder));
  Client& state = clients_[client];
  state.moving += pages;
  return [this, waiting, client, pages, buffer = state.buffer](const Status& status) {
    static_cast<void>(mailbox_.post_reply([this, waiting, client, pages, status] {
      if (const auto still = clients_.find(client); still != clients_.end())
        still->second.moving -= pages;
      if (status)
        waiting->done();
      else
        waiting->fail(status.error());
    }));
  };
}

void Node::take_pages(ClientId client, const control::TakePages& request, Responder responder) {
  const auto bytes = find_pages(client, request.container_id(), request.first_page(),
                                request.pages(), request.at(), /*copy=*/false);
  if (!bytes) return responder.fail(bytes.error());
  files_->take(ContainerId{request.container_id()}, request.first_page() * kPageSize, *bytes,
               request.ahead(), answer_pages(client, request.pages(), std::move(responder)));
}

void Node::put_pages(ClientId client, const control::PutPages& request, Responder responder) {
  const auto bytes = find_pages(client, request.container_id(), request.first_page(),
                                request.pages(), request.at(), /*copy=*/false);
  if (!bytes) return responder.fail(bytes.error());
  files_->put(ContainerId{request.container_id()}, request.first_page() * kPageSize, *bytes,
              answer_pages(client, request.pages(), std::move(responder)));
}

void Node::copy_pages(ClientId client, const control::CopyPages& request, Responder responder) {
  const auto bytes = find_pages(client, request.container_id(), request.first_page(),
                                request.pages(), request.at(), /*copy=*/true);
  if (!bytes) return responder.fail(bytes.error());
  files_->copy(ContainerId{request.container_id()}, request.first_page() * kPageSize, *bytes,
               answer_pages(client, request.pages(), std::move(responder)));
}

void Node::serve_processes(const PeerCredentials& peer, ClientId client,
                           const control::ServeProcesses& request, std::vector<UniqueFd> fds,
                           Responder responder) {
  if (peer.uid != 0 && peer.uid != ::geteuid())
    return responder.fail(make_error(
        ErrorCode::kPermissionDenied,
        "only root and the user that runs gobd may have memory of processes served", EPERM));
  const Credentials who = credentials(peer);
  if (fds.empty()) {
    ContainerTable::NewContainer wanted;
    wanted.name = request.name();
    wanted.size_bytes = kMaxPages * kPageSize;
    wanted.mode = 0400;
    wanted.created_unix_ms = static_cast<std::uint64_t>(::time(nullptr)) * 1000;
    wanted.home = self_;
    wanted.kind = ContainerKind::kProcess;
    wanted.source = "processes";
    container::Actions actions;
    const std::uint64_t id = table_->create(wanted, who, actions);
    return await_table(id, client, {true, false}, std::move(responder), actions);
  }
  auto [name, all] = std::exchange(clients_[client].processes, {});
  const ContainerRecord* record = table_->find(request.name());
  if (record == nullptr || record->kind != ContainerKind::kProcess || record->info.home != self_ ||
      !may(*record, who, Right::kAdmin))
    return responder.fail(make_error(
        ErrorCode::kNotFound,
        "this node serves no memory of processes as " + quoted(request.name()) + " for this user",
        ENOENT));
  const auto local = containers_.find(record->info.id);
  if (local == containers_.end() || local->second.bound)
    return responder.fail(
        make_error(ErrorCode::kAlreadyExists,
                   "the processes of " + quoted(request.name()) + " are known already", EBUSY));
  if (name != request.name()) all.clear();
  std::ranges::move(fds, std::back_inserter(all));
  if (request.more() && all.size() <= ProcessMemory::kMostFds) {
    clients_[client].processes = {request.name(), std::move(all)};
    return responder.done();
  }
  auto memory = ProcessMemory::open(std::move(all));
  if (!memory) return responder.fail(memory.error());
  local->second.bound = true;
  const auto waiting = std::make_shared<Responder>(std::move(responder));
  files_->bind_processes(record->info.id, std::move(*memory), [this, waiting](const Status& bound) {
    static_cast<void>(mailbox_.post_reply([waiting, bound] {
      if (bound)
        waiting->done();
      else
        waiting->fail(bound.error());
    }));
  });
}

}  // namespace gob
