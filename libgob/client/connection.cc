#include "libgob/client/connection.h"

#include <errno.h>
#include <unistd.h>

#include <cstdlib>

#include "libgob/client/fork_watch.h"

using gob::ControlClient;
using gob::ErrorCode;
using gob::make_error;
using gob::Result;
using gob::Status;
using gob::UniqueFd;
namespace control = gob::control;

namespace {

std::string socket_path_or_default(const char* path) {
  if (path != nullptr && *path != '\0') return path;
  // A program that runs with more rights than its caller does not let the caller choose its gobd.
  const char* environment = ::secure_getenv("GOB_SOCKET");
  return environment != nullptr && *environment != '\0' ? environment : GOB_DEFAULT_SOCKET;
}

}  // namespace

gob_connection::gob_connection(std::unique_ptr<ControlClient> client, UniqueFd empty_file)
    : owner_(::getpid()), client_(std::move(client)), mappings_(std::move(empty_file)) {}

Result<std::unique_ptr<gob_connection>> gob_connection::open(const char* socket_path) {
  auto ends = gob::client::Guardian::Ends::make();
  if (!ends.ok()) return ends.error();
  auto empty_file = gob::client::MappingTable::make_empty_file(gob::client::kSessionFile +
                                                               std::to_string(ends->door.get()));
  if (!empty_file.ok()) return empty_file.error();
  auto client =
      ControlClient::connect(socket_path_or_default(socket_path), ::program_invocation_short_name);
  if (!client.ok()) return client.error();
  if ((*client)->hello().page_size() == 0) {
    return make_error(ErrorCode::kProtocol, "gobd gave a page size of 0", EPROTO);
  }
  std::unique_ptr<gob_connection> connection(
      new gob_connection(std::move(*client), std::move(*empty_file)));
  auto guardian = gob::client::Guardian::start(*connection, std::move(*ends));
  if (!guardian.ok()) return guardian.error();
  connection->guardian_ = std::move(*guardian);
  if (Status watched = gob::client::watch_forks(connection.get()); !watched.ok()) {
    return watched.error();
  }
  return connection;
}

gob_connection::~gob_connection() {
  gob::client::unwatch_forks(this);
  guardian_.reset();
  mappings_.unmap_all();
  client_->shut_down();
}

bool gob_connection::ours() const { return ::getpid() == owner_; }

Result<ControlClient::Answer> gob_connection::call(const control::Request& request,
                                                   std::span<const int> fds,
                                                   ControlClient::Milliseconds timeout) {
  const gob::client::Gate::Pass pass(gate_);
  return client_->call(request, fds, timeout);
}

gob_container* gob_connection::adopt(std::unique_ptr<gob_container> container) {
  const std::lock_guard guard(containers_mutex_);
  containers_.push_back(std::move(container));
  return containers_.back().get();
}

void gob_connection::close(gob_container* container) {
  const std::lock_guard guard(containers_mutex_);
  containers_.remove_if([&](const auto& owned) { return owned.get() == container; });
}

Result<void*> gob_connection::map(const gob_container& container, std::uint64_t offset,
                                  std::size_t length, bool writable, void* where) {
  const gob::client::Gate::Pass pass(gate_);
  const std::uint64_t page = hello().page_size();
  control::Request request;
  control::MapContainer& wanted = *request.mutable_map_container();
  wanted.set_container_id(container.id);
  wanted.set_first_page(offset / page);
  wanted.set_pages((length + page - 1) / page);
  wanted.set_writable(writable);
  auto answer = call(request);
  if (!answer.ok()) return answer.error();
  const auto& reply = answer->reply.map_container();
  const std::size_t expected_fds = reply.has_uffd_device() ? 2 : 1;
  if (answer->fds.size() != expected_fds) {
    return make_error(ErrorCode::kProtocol, "gobd sent a mapping without its memory", EPROTO);
  }

  auto mapped = mappings_.map({reply.mapping_id(), container.id, container.name, answer->fds[0].get(),
                               reply.has_uffd_device() ? answer->fds[1].get() : -1, offset,
                               wanted.pages() * page, writable, where, container.file});
  if (!mapped.ok()) {
    give_up(reply.mapping_id());
    return mapped.error();
  }
  control::Request ready;
  ready.mutable_mapping_ready()->set_mapping_id(reply.mapping_id());
  ready.mutable_mapping_ready()->set_address(reinterpret_cast<std::uintptr_t>(mapped->address));
  // If the guardian closes it meanwhile, the socket is shut down and takes nothing any more.
  const int fds[] = {mapped->uffd};
  if (auto accepted = call(ready, fds); !accepted.ok()) {
    if (auto unmapped = mappings_.unmap(mapped->address); !unmapped.ok()) return unmapped.error();
    give_up(reply.mapping_id());
    return accepted.error();
  }
  return mapped->address;
}

void gob_connection::give_up(std::uint64_t mapping_id) {
  control::Request request;
  request.mutable_unmap_container()->set_mapping_id(mapping_id);
  // Whatever gobd says, the error that led here is what the program is told.
  static_cast<void>(call(request).ok());
}

Status gob_connection::unmap(void* address) {
  const gob::client::Gate::Pass pass(gate_);
  auto id = mappings_.unmap(address);
  if (!id.ok()) return id.error();
  control::Request request;
  request.mutable_unmap_container()->set_mapping_id(*id);
  auto told = call(request);
  // A gobd that is gone has forgotten the mapping as well.
  if (told.ok() || told.error().errno_value == ENOTCONN) return {};
  return told.error();
}

void gob_connection::after_fork_in_child() {
  mappings_.close_in_child();
  client_->close_in_child();
  guardian_->close_in_child();
}
