// gob.h: connection, containers, errors.
#include <cstring>

#include "libgob/client/connection.h"
#include "libgob/client/last_error.h"
#include "libgob/client/request.h"
#include "libgob/gob.h"

namespace control = gob::control;
using gob::client::failed;
using gob::client::guarded;
using gob::client::refused;
using gob::client::usable;

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
    *out = connection->adopt(std::make_unique<gob_container>(
        gob_container{connection, opened.id(), name, opened.size_bytes(), access}));
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
    if (offset >= container->size_bytes || length > container->size_bytes - offset) {
      return refused("gob_map: " + std::to_string(length) + " bytes from " +
                     std::to_string(offset) + " are outside of container \"" + container->name +
                     "\", which has " + std::to_string(container->size_bytes));
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
