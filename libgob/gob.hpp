// gob.hpp: the C++ side of gob.h, header only. Objects release what they hold; failures are
// std::system_error with gob_last_error() as text. The rules of gob.h on threads, faults and fork
// hold.
#ifndef GOB_HPP
#define GOB_HPP

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <system_error>
#include <utility>

#include "gob.h"

namespace gobelins {

enum class Access { kRead = GOB_READ, kReadWrite = GOB_READ | GOB_WRITE };

inline constexpr std::chrono::milliseconds kForever{GOB_FOREVER};

namespace detail {

inline int check(int result) {
  if (result >= 0) return result;
  throw std::system_error(-result, std::generic_category(), gob_last_error());
}

struct Disconnect {
  void operator()(gob_connection* connection) const noexcept { gob_disconnect(connection); }
};
// Containers and mappings keep their connection alive.
using ConnectionPointer = std::shared_ptr<gob_connection>;

}  // namespace detail

// A part of a container in the program's memory. Unmapped by the destructor.
class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept { swap(other); }
  Mapping& operator=(Mapping&& other) noexcept {
    Mapping(std::move(other)).swap(*this);
    return *this;
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() {
    if (address_ != nullptr) gob_unmap(connection_.get(), address_);
  }

  [[nodiscard]] void* data() const { return address_; }
  [[nodiscard]] std::size_t size_bytes() const { return size_bytes_; }
  // The mapping as an array of T: as many as fit.
  template <class T>
  [[nodiscard]] std::span<T> as() const {
    return {static_cast<T*>(address_), size_bytes_ / sizeof(T)};
  }

 private:
  friend class Container;
  Mapping(detail::ConnectionPointer connection, void* address, std::size_t size_bytes)
      : connection_(std::move(connection)), address_(address), size_bytes_(size_bytes) {}
  void swap(Mapping& other) noexcept {
    std::swap(connection_, other.connection_);
    std::swap(address_, other.address_);
    std::swap(size_bytes_, other.size_bytes_);
  }

  detail::ConnectionPointer connection_;
  void* address_ = nullptr;
  std::size_t size_bytes_ = 0;
};

// An open container. Its mappings live on after it.
class Container {
 public:
  Container(Container&& other) noexcept
      : connection_(std::move(other.connection_)),
        container_(std::exchange(other.container_, nullptr)),
        access_(other.access_) {}
  Container& operator=(Container&& other) noexcept {
    std::swap(connection_, other.connection_);
    std::swap(container_, other.container_);
    std::swap(access_, other.access_);
    return *this;
  }
  Container(const Container&) = delete;
  Container& operator=(const Container&) = delete;
  ~Container() { gob_close(container_); }

  [[nodiscard]] std::uint64_t size_bytes() const {
    std::uint64_t bytes = 0;
    detail::check(gob_size(container_, &bytes));
    return bytes;
  }
  // Maps `length` bytes from `offset`, a multiple of the page size; length 0: up to the end.
  [[nodiscard]] Mapping map(std::uint64_t offset = 0, std::size_t length = 0) const {
    void* address = nullptr;
    detail::check(gob_map(container_, offset, length, static_cast<int>(access_), &address));
    const std::size_t bytes =
        length != 0 ? length : static_cast<std::size_t>(size_bytes() - offset);
    return {connection_, address, bytes};
  }

 private:
  friend class Connection;
  Container(detail::ConnectionPointer connection, gob_container* container, Access access)
      : connection_(std::move(connection)), container_(container), access_(access) {}

  detail::ConnectionPointer connection_;
  gob_container* container_ = nullptr;
  Access access_ = Access::kRead;
};

// A lock of the cluster, for std::lock_guard and std::unique_lock. Throws EOWNERDEAD *after* taking
// it from a holder that died; lock_owner_died() is for programs that can repair what it guards.
class Mutex {
 public:
  void lock() { detail::check(gob_lock(connection_.get(), name_.c_str(), GOB_FOREVER)); }
  [[nodiscard]] bool try_lock() {
    const int result = gob_trylock(connection_.get(), name_.c_str());
    if (result == -EBUSY) return false;
    detail::check(result);
    return true;
  }
  void unlock() { detail::check(gob_unlock(connection_.get(), name_.c_str())); }
  // Takes the lock; true if its last holder died with it.
  [[nodiscard]] bool lock_owner_died() {
    const int result = gob_lock(connection_.get(), name_.c_str(), GOB_FOREVER);
    if (result == -EOWNERDEAD) return true;
    detail::check(result);
    return false;
  }
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  friend class Connection;
  friend class Condition;
  Mutex(detail::ConnectionPointer connection, std::string name)
      : connection_(std::move(connection)), name_(std::move(name)) {}

  detail::ConnectionPointer connection_;
  std::string name_;
};

// A condition variable of the cluster, bound to the mutex its waiters hold.
class Condition {
 public:
  // The calling thread holds the mutex. False: `timeout` passed.
  bool wait(std::chrono::milliseconds timeout = kForever) {
    const int result = gob_cond_wait(mutex_.connection_.get(), name_.c_str(), mutex_.name_.c_str(),
                                     timeout.count());
    if (result == -ETIMEDOUT) return false;
    detail::check(result);
    return true;
  }
  void signal() {
    detail::check(gob_cond_signal(mutex_.connection_.get(), name_.c_str(), mutex_.name_.c_str()));
  }
  void broadcast() {
    detail::check(
        gob_cond_broadcast(mutex_.connection_.get(), name_.c_str(), mutex_.name_.c_str()));
  }

 private:
  friend class Connection;
  Condition(Mutex mutex, std::string name) : mutex_(std::move(mutex)), name_(std::move(name)) {}

  Mutex mutex_;
  std::string name_;
};

// A connection to the gobd of this node. Copies share it.
class Connection {
 public:
  // Empty path: $GOB_SOCKET, or else GOB_DEFAULT_SOCKET.
  explicit Connection(const std::string& socket_path = {}) {
    gob_connection* connection = nullptr;
    detail::check(gob_connect(socket_path.empty() ? nullptr : socket_path.c_str(), &connection));
    connection_ = detail::ConnectionPointer(connection, detail::Disconnect{});
  }

  [[nodiscard]] int node_id() const { return detail::check(gob_node_id(connection_.get())); }
  [[nodiscard]] int node_count() const { return detail::check(gob_node_count(connection_.get())); }
  [[nodiscard]] std::string node_name(int id) const {
    const char* name = gob_node_name(connection_.get(), id);
    return name == nullptr ? std::string() : std::string(name);
  }
  [[nodiscard]] std::size_t page_size() const { return gob_page_size(connection_.get()); }

  void create(const std::string& name, std::uint64_t size_bytes, unsigned mode = 0600) {
    detail::check(gob_create(connection_.get(), name.c_str(), size_bytes, mode));
  }
  [[nodiscard]] Container open(const std::string& name, Access access = Access::kReadWrite) {
    gob_container* container = nullptr;
    detail::check(gob_open(connection_.get(), name.c_str(), static_cast<int>(access), &container));
    return {connection_, container, access};
  }
  // The container of a file of a gob mount, open for reading and writing as `fd`.
  [[nodiscard]] Container open_file(int fd) {
    gob_container* container = nullptr;
    detail::check(gob_open_file(connection_.get(), fd, &container));
    return {connection_, container, Access::kReadWrite};
  }
  void remove(const std::string& name) {
    detail::check(gob_remove(connection_.get(), name.c_str()));
  }

  // Waits for `count` participants; true to exactly one of them.
  bool barrier(const std::string& name, unsigned count,
               std::chrono::milliseconds timeout = kForever) {
    return detail::check(
               gob_barrier_wait(connection_.get(), name.c_str(), count, timeout.count())) == 1;
  }
  [[nodiscard]] Mutex mutex(std::string name) { return {connection_, std::move(name)}; }
  [[nodiscard]] Condition condition(std::string name, Mutex mutex) {
    return {std::move(mutex), std::move(name)};
  }

  // For calls of gob.h.
  [[nodiscard]] gob_connection* get() const { return connection_.get(); }

 private:
  detail::ConnectionPointer connection_;
};

}  // namespace gobelins

#endif
