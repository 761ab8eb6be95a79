#include "gobbench/tcp_pair.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/socket.h>

#include <future>
#include <thread>

#include "gobbench/process.h"
#include "libgob/base/unique_fd.h"

namespace gob::bench {
namespace {

constexpr timeval kTimeout{30, 0};  // a stuck peer ends the measurement with an error

Status enter(int netns_fd) {
  if (netns_fd >= 0 && ::setns(netns_fd, CLONE_NEWNET) != 0)
    return system_error("cannot enter a network namespace");
  return {};
}

}  // namespace

Status set_up_tcp(int fd) {
  const int on = 1;
  if (::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0 ||
      ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &kTimeout, sizeof(kTimeout)) != 0 ||
      ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &kTimeout, sizeof(kTimeout)) != 0)
    return system_error("cannot set options of a TCP socket");
  return {};
}

Status send_all(int fd, const std::byte* bytes, std::size_t count) {
  while (count > 0) {
    const ssize_t sent = ::send(fd, bytes, count, MSG_NOSIGNAL);
    if (sent <= 0) return system_error("raw TCP: cannot send");
    bytes += sent;
    count -= static_cast<std::size_t>(sent);
  }
  return {};
}

Status receive_all(int fd, std::byte* bytes, std::size_t count) {
  while (count > 0) {
    const ssize_t got = ::recv(fd, bytes, count, 0);
    if (got == 0) return make_error(ErrorCode::kUnavailable, "raw TCP: the other end closed");
    if (got < 0) return system_error("raw TCP: cannot receive");
    bytes += got;
    count -= static_cast<std::size_t>(got);
  }
  return {};
}

sockaddr_in tcp_address(const std::string& host, std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  (void)::inet_pton(AF_INET, host.c_str(), &address.sin_addr);  // hosts are our own numeric ones
  return address;
}

Status run_tcp_pair(const TcpPlaces& places, const TcpEnd& server, const TcpEnd& client) {
  std::promise<Result<std::uint16_t>> listening;
  std::future<Result<std::uint16_t>> port = listening.get_future();
  Status server_status;
  Status client_status;
  std::thread server_thread([&] {
    const PinnedThread pinned(places.server_cpu);
    const Status entered = enter(places.server_netns_fd);
    const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = tcp_address(places.server_host, 0);
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    socklen_t length = sizeof(address);
    if (!entered) {
      listening.set_value(entered.error());
      return;
    }
    if (!listener || ::bind(listener.get(), generic, length) != 0 ||
        ::listen(listener.get(), 1) != 0 || ::getsockname(listener.get(), generic, &length) != 0 ||
        !set_up_tcp(listener.get())) {
      listening.set_value(system_error("raw TCP: cannot listen on " + places.server_host));
      return;
    }
    listening.set_value(ntohs(address.sin_port));
    const UniqueFd fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!fd) {
      server_status = system_error("raw TCP: nobody connected");
      return;
    }
    server_status = set_up_tcp(fd.get());
    if (server_status) server_status = server(fd.get());
  });
  std::thread client_thread([&] {
    const PinnedThread pinned(places.client_cpu);
    const Result<std::uint16_t> to = port.get();
    client_status = to ? enter(places.client_netns_fd) : Status(to.error());
    if (!client_status) return;
    const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = tcp_address(places.server_host, *to);
    if (!fd || ::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
      client_status = system_error("raw TCP: cannot connect to " + places.server_host);
      return;
    }
    client_status = set_up_tcp(fd.get());
    if (client_status) client_status = client(fd.get());
  });
  server_thread.join();
  client_thread.join();
  return client_status ? server_status : client_status;
}

Result<TcpConnection> connect_tcp(const TcpPlaces& places) {
  TcpConnection made;
  const auto keep = [](UniqueFd& end) {
    return [&end](int fd) -> Status {
      constexpr timeval kForever{0, 0};
      end = UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
      if (end && ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &kForever, sizeof(kForever)) == 0 &&
          ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &kForever, sizeof(kForever)) == 0)
        return {};
      return system_error("cannot keep a TCP socket");
    };
  };
  if (Status s = run_tcp_pair(places, keep(made.server), keep(made.client)); !s) return s.error();
  return made;
}

}  // namespace gob::bench
