#include "libgob/migration/resident.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <string>

#include "libgob/migration/proc.h"

namespace gob::migration {
namespace {

constexpr std::uint32_t kLargest = 256u << 20;  // bytes of a message
constexpr timeval kPatience{60, 0};             // with a peer that stops in the middle

struct Address {
  sockaddr_un name{};
  socklen_t bytes = 0;
};

Result<Address> address_of(pid_t pid) {
  struct stat info {};
  const std::string path = proc(pid, "ns/pid");
  if (::stat(path.c_str(), &info) != 0) return system_error("looking at " + path);
  const std::string name = "gobmigrate/pid-namespace-" + std::to_string(info.st_ino);
  Address address;
  address.name.sun_family = AF_UNIX;
  name.copy(address.name.sun_path + 1, sizeof address.name.sun_path - 1);  // abstract: first a zero
  address.bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  return address;
}

void set_patience(int fd) {
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience);
}

// Who may take a process elsewhere, or be trusted to: root.
bool is_root(int fd) {
  ucred peer{};
  socklen_t bytes = sizeof peer;
  return ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0 && peer.uid == 0;
}

template <class Body>
bool put(int fd, const Body& body) {
  std::string bytes(sizeof(std::uint32_t), '\0');
  body.AppendToString(&bytes);
  const auto size = static_cast<std::uint32_t>(bytes.size() - sizeof(std::uint32_t));
  bytes.replace(0, sizeof size, reinterpret_cast<const char*>(&size), sizeof size);
  for (std::size_t sent = 0; sent < bytes.size();) {
    const ssize_t step = ::send(fd, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (step <= 0) return false;
    sent += static_cast<std::size_t>(step);
  }
  return true;
}

bool take(int fd, void* to, std::size_t bytes) {
  for (std::size_t got = 0; got < bytes;) {
    const ssize_t step = ::recv(fd, static_cast<char*>(to) + got, bytes - got, 0);
    if (step <= 0) return false;
    got += static_cast<std::size_t>(step);
  }
  return true;
}

template <class Body>
bool get(int fd, Body& body) {
  std::uint32_t size = 0;
  if (!take(fd, &size, sizeof size) || size > kLargest) return false;
  std::string bytes(size, '\0');
  return take(fd, bytes.data(), size) && body.ParseFromString(bytes);
}

}  // namespace

Result<Resident> Resident::connect(pid_t pid) {
  const auto address = address_of(pid);
  if (!address) return address.error();
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return system_error("making a socket");
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address->name), address->bytes) != 0 ||
      !is_root(fd.get()))
    return make_error(ErrorCode::kNotFound, "no server of gobmigrate looks after process " +
                                                std::to_string(pid) + " on this machine");
  set_patience(fd.get());
  return Resident(std::move(fd));
}

Result<ResidentReply> Resident::call(const ResidentRequest& request) {
  ResidentReply reply;
  if (!put(fd_.get(), request) || !get(fd_.get(), reply))
    return make_error(ErrorCode::kUnavailable,
                      "the process that serves the memory of this migrant has ended");
  if (!reply.error().empty()) return make_error(ErrorCode::kUnavailable, reply.error());
  return reply;
}

Result<ResidentPort> ResidentPort::open(pid_t pid) {
  const auto address = address_of(pid);
  if (!address) return address.error();
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd || ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address->name), address->bytes) ||
      ::listen(fd.get(), 1) != 0)
    return system_error("listening for requests to move the process on");
  return ResidentPort(std::move(fd));
}

std::optional<ResidentRequest> ResidentPort::next() {
  if (!client_) {
    client_.reset(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!client_) return std::nullopt;
    set_patience(client_.get());
    if (!is_root(client_.get())) client_.reset();
    return std::nullopt;
  }
  ResidentRequest request;
  if (get(client_.get(), request)) return request;
  client_.reset();
  return std::nullopt;
}

void ResidentPort::reply(const ResidentReply& reply) {
  if (!put(client_.get(), reply)) client_.reset();
}

}  // namespace gob::migration
