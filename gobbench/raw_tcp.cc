#include "gobbench/raw_tcp.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <future>
#include <thread>

#include "gobbench/process.h"
#include "libgob/base/unique_fd.h"

namespace gob::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::size_t kWriteBytes = std::size_t{256} * 1024;
constexpr timeval kTimeout{30, 0};  // a stuck peer ends the measurement with an error

Status enter(int netns_fd) {
  if (netns_fd >= 0 && ::setns(netns_fd, CLONE_NEWNET) != 0)
    return system_error("cannot enter a network namespace");
  return {};
}

Status set_up(int fd) {
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

sockaddr_in address_of(const std::string& host, std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  (void)::inet_pton(AF_INET, host.c_str(), &address.sin_addr);  // hosts are our own numeric ones
  return address;
}

// Runs `server` on an accepted connection in a thread of its own, and `client` on the other end in
// another; each in its place.
template <class Server, class Client>
Status run_pair(const TcpPlaces& places, Server server, Client client) {
  std::promise<Result<std::uint16_t>> listening;
  std::future<Result<std::uint16_t>> port = listening.get_future();
  Status server_status;
  Status client_status;
  std::thread server_thread([&] {
    const PinnedThread pinned(places.server_cpu);
    const Status entered = enter(places.server_netns_fd);
    const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = address_of(places.server_host, 0);
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    socklen_t length = sizeof(address);
    if (!entered) {
      listening.set_value(entered.error());
      return;
    }
    if (!listener || ::bind(listener.get(), generic, length) != 0 ||
        ::listen(listener.get(), 1) != 0 || ::getsockname(listener.get(), generic, &length) != 0 ||
        !set_up(listener.get())) {
      listening.set_value(system_error("raw TCP: cannot listen on " + places.server_host));
      return;
    }
    listening.set_value(ntohs(address.sin_port));
    const UniqueFd fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!fd) {
      server_status = system_error("raw TCP: nobody connected");
      return;
    }
    server_status = set_up(fd.get());
    if (server_status) server_status = server(fd.get());
  });
  std::thread client_thread([&] {
    const PinnedThread pinned(places.client_cpu);
    const Result<std::uint16_t> to = port.get();
    client_status = to ? enter(places.client_netns_fd) : Status(to.error());
    if (!client_status) return;
    const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = address_of(places.server_host, *to);
    if (!fd || ::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
      client_status = system_error("raw TCP: cannot connect to " + places.server_host);
      return;
    }
    client_status = set_up(fd.get());
    if (client_status) client_status = client(fd.get());
  });
  server_thread.join();
  client_thread.join();
  return client_status ? server_status : client_status;
}

}  // namespace

Result<std::vector<std::uint64_t>> tcp_ping_pong(const TcpPlaces& places, std::size_t bytes_out,
                                                 std::size_t bytes_back, unsigned rounds) {
  std::vector<std::uint64_t> samples;
  samples.reserve(rounds);
  const auto server = [&](int fd) -> Status {
    std::vector<std::byte> in(bytes_out);
    const std::vector<std::byte> out(bytes_back);
    for (unsigned i = 0; i < rounds; ++i) {
      if (Status s = receive_all(fd, in.data(), in.size()); !s) return s;
      if (Status s = send_all(fd, out.data(), out.size()); !s) return s;
    }
    return {};
  };
  const auto client = [&](int fd) -> Status {
    const std::vector<std::byte> out(bytes_out);
    std::vector<std::byte> in(bytes_back);
    for (unsigned i = 0; i < rounds; ++i) {
      const auto begin = Clock::now();
      if (Status s = send_all(fd, out.data(), out.size()); !s) return s;
      if (Status s = receive_all(fd, in.data(), in.size()); !s) return s;
      const std::chrono::nanoseconds took = Clock::now() - begin;
      samples.push_back(static_cast<std::uint64_t>(took.count()));
    }
    return {};
  };
  if (Status s = run_pair(places, server, client); !s) return s.error();
  return samples;
}

Result<TcpCalls> tcp_calls(std::size_t bytes, unsigned rounds) {
  const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const UniqueFd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = address_of("127.0.0.1", 0);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  socklen_t length = sizeof(address);
  if (!listener || !client || ::bind(listener.get(), generic, length) != 0 ||
      ::listen(listener.get(), 1) != 0 || ::getsockname(listener.get(), generic, &length) != 0 ||
      ::connect(client.get(), generic, length) != 0)
    return system_error("raw TCP: cannot connect to this program");
  const UniqueFd server(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!server) return system_error("raw TCP: nobody connected");
  for (const int fd : {client.get(), server.get()})
    if (Status s = set_up(fd); !s) return s.error();
  std::vector<std::byte> buffer(bytes);
  std::vector<std::uint64_t> sends;
  std::vector<std::uint64_t> receives;
  const auto timed = [](std::vector<std::uint64_t>& samples, auto&& call) {
    const auto begin = Clock::now();
    const Status done = call();
    const std::chrono::nanoseconds took = Clock::now() - begin;
    samples.push_back(static_cast<std::uint64_t>(took.count()));
    return done;
  };
  for (unsigned i = 0; i < rounds; ++i) {
    if (Status s = timed(sends, [&] { return send_all(client.get(), buffer.data(), bytes); }); !s)
      return s.error();
    if (Status s = timed(receives, [&] { return receive_all(server.get(), buffer.data(), bytes); });
        !s)
      return s.error();
  }
  const auto median_us = [](std::vector<std::uint64_t>& ns) {
    std::sort(ns.begin(), ns.end());
    return static_cast<double>(ns[ns.size() / 2]) * 1e-3;
  };
  return TcpCalls{median_us(sends), median_us(receives)};
}

Result<double> tcp_stream(const TcpPlaces& places, std::uint64_t bytes) {
  double seconds = 0;
  const auto server = [&](int fd) -> Status {
    const std::vector<std::byte> out(kWriteBytes);
    for (std::uint64_t left = bytes; left > 0;) {
      const std::size_t now = static_cast<std::size_t>(std::min<std::uint64_t>(left, out.size()));
      if (Status s = send_all(fd, out.data(), now); !s) return s;
      left -= now;
    }
    return {};
  };
  const auto client = [&](int fd) -> Status {
    std::vector<std::byte> in(kWriteBytes);
    const auto begin = Clock::now();
    for (std::uint64_t left = bytes; left > 0;) {
      const std::size_t now = static_cast<std::size_t>(std::min<std::uint64_t>(left, in.size()));
      if (Status s = receive_all(fd, in.data(), now); !s) return s;
      left -= now;
    }
    seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    return {};
  };
  if (Status s = run_pair(places, server, client); !s) return s.error();
  return static_cast<double>(bytes) / seconds;
}

}  // namespace gob::bench
