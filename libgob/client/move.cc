// What a connection does when its process moves (docs/decisions/0031): its guardian lets go of gobd and
// of every mapping while all other threads stand still, and takes them up at another gobd.
#include <errno.h>
#include <sys/ioctl.h>

#include <map>
#include <string>

#include "libgob/client/connection.h"
#include "libgob/file/file_tickets.h"

using gob::ControlClient;
using gob::ErrorCode;
using gob::make_error;
using gob::Result;
using gob::Status;
namespace control = gob::control;

namespace {

constexpr std::chrono::seconds kIdle{5};    // for a moment when no thread is in libgob
constexpr std::chrono::seconds kGobd{10};   // for one answer of gobd

// The number of an opened container at this gobd; kNotFound: it is gone.
Result<std::uint32_t> open_at(ControlClient& gobd, const std::string& name, std::uint32_t id,
                              bool writable, const gob::UniqueFd* file) {
  control::Request request;
  if (file != nullptr) {
    gob::file::FileTicket ticket{};
    if (::ioctl(file->get(), gob::file::kIoctlTicket, ticket.data()) != 0)
      return gob::system_error("asking for the container of file \"" + name + "\"");
    for (const std::uint64_t word : ticket) request.mutable_open_file()->add_ticket(word);
  } else {
    request.mutable_open_container()->set_name(name);
    request.mutable_open_container()->set_read(true);
    request.mutable_open_container()->set_write(writable);
  }
  auto answer = gobd.call(std::move(request), {}, kGobd);
  if (!answer.ok()) return answer.error();
  const std::uint32_t found = answer->reply.container().container().id();
  if (file == nullptr && found != id)
    return make_error(ErrorCode::kNotFound,
                      "container \"" + name + "\" is another one of that name by now", ENOENT);
  return found;
}

}  // namespace

Status gob_connection::prepare_move() {
  if (Status closed = gate_.close(kIdle); !closed.ok()) return closed;
  containers_mutex_.lock();
  mappings_.lock();
  return {};
}

void gob_connection::end_move() {
  mappings_.unlock();
  containers_mutex_.unlock();
  gate_.open();
}

std::string gob_connection::descriptors() {
  std::string numbers = std::to_string(client_->fd());
  for (const auto& place : mappings_.places()) numbers += ' ' + std::to_string(place.uffd);
  return numbers;
}

Result<std::unique_ptr<ControlClient>> gob_connection::reopen(const std::string& socket,
                                                              Reopened& reopened) {
  auto gobd = ControlClient::connect(socket, ::program_invocation_short_name, kGobd);
  if (!gobd.ok()) return gobd.error();
  if ((*gobd)->hello().page_size() != hello().page_size() ||
      (*gobd)->hello().cluster_name() != hello().cluster_name())
    return make_error(ErrorCode::kInvalidArgument, "the gobd there is of another cluster", EINVAL);
  const auto open = [&](const std::string& name, std::uint32_t id, bool writable,
                        const gob::UniqueFd* file) -> Status {
    const auto found = open_at(**gobd, name, id, writable, file);
    if (found.ok()) reopened[id] = *found;
    // One that was removed is no reason to stay: what is mapped of it raises SIGBUS anywhere.
    if (found.ok() || found.error().code == ErrorCode::kNotFound) return {};
    return found.error();
  };
  for (const auto& container : containers_)
    if (Status opened = open(container->name, container->id, (container->access & GOB_WRITE) != 0,
                             container->file.get());
        !opened.ok())
      return opened.error();
  for (const auto& place : mappings_.places())
    if (Status opened =
            open(place.container, place.container_id, place.writable, place.file.get());
        !opened.ok())
      return opened.error();
  return gobd;
}

Status gob_connection::try_join(const std::string& socket) {
  Reopened reopened;
  auto gobd = reopen(socket, reopened);
  if (!gobd.ok()) return gobd.error();
  (*gobd)->shut_down();
  return {};
}

Status gob_connection::leave() {
  Status left = mappings_.leave();
  client_->shut_down();
  client_->close_in_child();
  return left;
}

Status gob_connection::join(const std::string& socket) {
  Reopened reopened;
  auto gobd = reopen(socket, reopened);
  if (!gobd.ok()) return gobd.error();
  for (const auto& place : mappings_.places()) {
    const auto found = reopened.find(place.container_id);
    Status joined = found == reopened.end() ? mappings_.lose(place.address)
                                            : join(**gobd, place, found->second);
    if (joined.ok()) continue;
    // All or nothing. What fails here fails again at the next join, or at lose().
    static_cast<void>(mappings_.leave().ok());
    return joined;
  }
  for (const auto& container : containers_)
    if (const auto found = reopened.find(container->id); found != reopened.end())
      container->id = found->second;
  // A thread may have stopped on its way to the old one's hello().
  former_.push_back(std::move(client_));
  client_ = std::move(*gobd);
  return {};
}

Status gob_connection::join(ControlClient& gobd, const gob::client::MappingTable::Place& place,
                            std::uint32_t id) {
  const std::uint64_t page = hello().page_size();
  control::Request request;
  request.mutable_map_container()->set_container_id(id);
  request.mutable_map_container()->set_first_page(place.offset / page);
  request.mutable_map_container()->set_pages(place.bytes / page);
  request.mutable_map_container()->set_writable(place.writable);
  auto answer = gobd.call(std::move(request), {}, kGobd);
  if (!answer.ok()) return answer.error();
  const auto& reply = answer->reply.map_container();
  if (answer->fds.size() != (reply.has_uffd_device() ? 2U : 1U))
    return make_error(ErrorCode::kProtocol, "gobd sent a mapping without its memory", EPROTO);
  const auto uffd = mappings_.join({reply.mapping_id(), id, place.container, answer->fds[0].get(),
                                    reply.has_uffd_device() ? answer->fds[1].get() : -1,
                                    place.offset, place.bytes, place.writable, place.address,
                                    place.file});
  if (!uffd.ok()) return uffd.error();
  control::Request ready;
  ready.mutable_mapping_ready()->set_mapping_id(reply.mapping_id());
  ready.mutable_mapping_ready()->set_address(reinterpret_cast<std::uintptr_t>(place.address));
  const int fds[] = {*uffd};
  auto accepted = gobd.call(std::move(ready), fds, kGobd);
  return accepted.ok() ? Status() : Status(accepted.error());
}
