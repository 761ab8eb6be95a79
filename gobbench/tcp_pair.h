// Two threads of this program with a TCP connection between them, each in its place: what baselines
// over sockets are measured with.
#pragma once

#include <netinet/in.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"

namespace gob::bench {

// Where the two threads run.
struct TcpPlaces {
  std::string server_host = "127.0.0.1";
  int server_netns_fd = -1;  // -1: this program's namespace
  int client_netns_fd = -1;
  std::optional<unsigned> server_cpu;
  std::optional<unsigned> client_cpu;
};

// A connection between the two places, without time-outs: to be idle is no error here.
struct TcpConnection {
  UniqueFd server;
  UniqueFd client;
};
[[nodiscard]] Result<TcpConnection> connect_tcp(const TcpPlaces& places);

// What a thread does with its end, a blocking socket with TCP_NODELAY.
using TcpEnd = std::function<Status(int fd)>;

// Runs `server` on an accepted connection in a thread of its own, and `client` on the other end in
// another; returns when both are done.
[[nodiscard]] Status run_tcp_pair(const TcpPlaces& places, const TcpEnd& server,
                                  const TcpEnd& client);

[[nodiscard]] sockaddr_in tcp_address(const std::string& host, std::uint16_t port);
// TCP_NODELAY, and time-outs after which a stuck peer is an error.
[[nodiscard]] Status set_up_tcp(int fd);
[[nodiscard]] Status send_all(int fd, const std::byte* bytes, std::size_t count);
[[nodiscard]] Status receive_all(int fd, std::byte* bytes, std::size_t count);

}  // namespace gob::bench
