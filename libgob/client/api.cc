// gob.h: connection, containers, errors.
#include <fcntl.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstring>

#include "libgob/client/connection.h"
#include "libgob/client/last_error.h"
#include "libgob/client/request.h"
#include "libgob/file/file_tickets.h"
#include "libgob/gob.h"

namespace control = gob::control;
using gob::client::failed;
using gob::client::guarded;
using gob::client::refused;
using gob::client::usable;
using gob::file::FileTicket;

namespace {

bool valid_access(int access) { return access == GOB_READ || access == (GOB_READ | GOB_WRITE); }

}  // namespace

int gob_connect(const char* socket_path, gob_connection** out) {
  return guarded([&] {
    if (out == nullptr) return refused("gob_connect: out is NULL");
    auto connection = gob_connection::open(socket_path);
    if (!connection.ok()) return failed(connection.error());
    *out = connection->release();
    return 0;
  });
}

int gob_disconnect(gob_connection* connection) {
  return guarded([&] {
    // In a forked child its threads and mappings do not exist; nothing there can be taken apart.
    if (connection != nullptr && connection->ours()) delete connection;
    return 0;
  });
}

int gob_node_id(const gob_connection* connection) {
  if (connection == nullptr) return refused("gob_node_id: connection is NULL");
  return static_cast<int>(connection->hello().node_id());
}

int gob_node_count(const gob_connection* connection) {
  if (connection == nullptr) return refused("gob_node_count: connection is NULL");
  return connection->hello().node_names_size();
}

const char* gob_node_name(const gob_connection* connection, int id) {
  if (connection == nullptr || id < 0 || id >= connection->hello().node_names_size())
    return nullptr;
  return connection->hello().node_names(id).c_str();
}

size_t gob_page_size(const gob_connection* connection) {
  return connection == nullptr ? 0 : connection->hello().page_size();
}

int gob_create(gob_connection* connection, const char* name, uint64_t size_bytes, unsigned mode) {
  return guarded([&] {
    if (int error = usable(connection, name, "gob_create"); error != 0) return error;
    control::Request request;
    request.mutable_create_container()->set_name(name);
    request.mutable_create_container()->set_size_bytes(size_bytes);
    request.mutable_create_container()->set_mode(mode);
    auto answer = connection->call(request);
    return answer.ok() ? 0 : failed(answer.error());
  });
}

int gob_open(gob_connection* connection, const char* name, int access, gob_container** out) {
  return guarded([&] {
    if (int error = usable(connection, name, "gob_open"); error != 0) return error;
    if (out == nullptr) return refused("gob_open: out is NULL");
    const gob::client::Gate::Pass pass(connection->gate());
    if (!valid_access(access)) {
      return refused("gob_open: access is neither GOB_READ nor GOB_READ | GOB_WRITE");
    }
    control::Request request;
    request.mutable_open_container()->set_name(name);
    request.mutable_open_container()->set_read(true);
    request.mutable_open_container()->set_write((access & GOB_WRITE) != 0);
    auto answer = connection->call(request);
    if (!answer.ok()) return failed(answer.error());
    const control::Container& opened = answer->reply.container().container();
    *out = connection->adopt(std::make_unique<gob_container>(gob_container{
        connection, opened.id(), name, opened.size_bytes(), access, opened.size_bytes(), nullptr}));
    return 0;
  });
}

int gob_open_file(gob_connection* connection, int fd, gob_container** out) {
  return guarded([&] {
    if (int error = usable(connection, "gob_open_file"); error != 0) return error;
    if (out == nullptr) return refused("gob_open_file: out is NULL");
    const gob::client::Gate::Pass pass(connection->gate());
    FileTicket ticket{};
    if (::ioctl(fd, gob::file::kIoctlTicket, ticket.data()) != 0) {
      const char* const why = errno == ENOTTY   ? "it is no file of a gob mount"
                              : errno == EACCES ? "it is not open for reading and writing"
                                                : "asking for its container failed";
      return failed(
          gob::system_error("gob_open_file: descriptor " + std::to_string(fd) + ": " + why));
    }
    // The home keeps what the file needs as long as somebody has it open.
    auto file = std::make_shared<const gob::UniqueFd>(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!*file) return failed(gob::system_error("gob_open_file: keeping the file open"));
    control::Request request;
    for (const std::uint64_t word : ticket) request.mutable_open_file()->add_ticket(word);
    auto answer = connection->call(request);
    if (!answer.ok()) return failed(answer.error());
    const control::ContainerReply& opened = answer->reply.container();
    *out = connection->adopt(std::make_unique<gob_container>(gob_container{
        connection, opened.container().id(), opened.container().name(), opened.file_bytes(),
        GOB_READ | GOB_WRITE, opened.container().size_bytes(), std::move(file)}));
    return 0;
  });
}

int gob_close(gob_container* container) {
  return guarded([&] {
    if (container != nullptr && container->connection->ours()) {
      container->connection->close(container);
    }
    return 0;
  });
}

int gob_remove(gob_connection* connection, const char* name) {
  return guarded([&] {
    if (int error = usable(connection, name, "gob_remove"); error != 0) return error;
    control::Request request;
    request.mutable_remove_container()->set_name(name);
    auto answer = connection->call(request);
    return answer.ok() ? 0 : failed(answer.error());
  });
}

int gob_size(const gob_container* container, uint64_t* size_bytes) {
  if (container == nullptr || size_bytes == nullptr)
    return refused("gob_size: an argument is NULL");
  *size_bytes = container->size_bytes;
  return 0;
}

int gob_map(gob_container* container, uint64_t offset, size_t length, int access, void** address) {
  return guarded([&] {
    if (container == nullptr || address == nullptr) return refused("gob_map: an argument is NULL");
    if (int error = usable(container->connection, "gob_map"); error != 0) return error;
    if (!valid_access(access)) {
      return refused("gob_map: access is neither GOB_READ nor GOB_READ | GOB_WRITE");
    }
    if ((access & ~container->access) != 0) {
      return failed(gob::make_error(
          gob::ErrorCode::kPermissionDenied,
          "gob_map: container \"" + container->name + "\" was opened for reading only", EACCES));
    }
    const uint64_t page = container->connection->hello().page_size();
    if (offset % page != 0) {
      return refused("gob_map: offset " + std::to_string(offset) +
                     " is not a multiple of the page size, " + std::to_string(page));
    }
    // A length of 0 means the rest, and there has to be one.
    const uint64_t end = length != 0 ? container->limit_bytes : container->size_bytes;
    if (offset >= end || length > end - offset) {
      return refused("gob_map: " + std::to_string(length) + " bytes from " +
                     std::to_string(offset) + " are outside of container \"" + container->name +
                     "\", which has " + std::to_string(end));
    }
    const size_t bytes = length != 0 ? length : container->size_bytes - offset;
    auto mapped = container->connection->map(*container, offset, bytes, (access & GOB_WRITE) != 0);
    if (!mapped.ok()) return failed(mapped.error());
    *address = *mapped;
    return 0;
  });
}

int gob_unmap(gob_connection* connection, void* address) {
  return guarded([&] {
    if (int error = usable(connection, "gob_unmap"); error != 0) return error;
    const gob::Status unmapped = connection->unmap(address);
    return unmapped.ok() ? 0 : failed(unmapped.error());
  });
}

const char* gob_last_error(void) { return gob::client::last_error(); }

const char* gob_strerror(int error) { return std::strerror(error < 0 ? -error : error); }

const char* gob_version(void) { return GOB_VERSION; }
