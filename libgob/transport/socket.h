// TCP sockets: resolve, listen, connect, options. All non-blocking and close-on-exec. Any thread.
#pragma once

#include <sys/socket.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/transport/answer_watch.h"
#include "libgob/transport/channel.h"

namespace gob {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t bytes = 0;

  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  [[nodiscard]] int family() const { return storage.ss_family; }
};

// "10.0.0.1:7400", "[fe80::1]:7400".
[[nodiscard]] std::string to_string(const SocketAddress& address);
// The same without the port.
[[nodiscard]] std::string host_of(const SocketAddress& address);

// May block on name look-up unless `host` is numeric. Never empty when ok.
[[nodiscard]] Result<std::vector<SocketAddress>> resolve(const std::string& host,
                                                         std::uint16_t port);

[[nodiscard]] Result<UniqueFd> listen_on(const std::string& host, std::uint16_t port);

// Begins to connect: success, failure, or nothing yet shows when the socket becomes writable, in
// connect_outcome().
[[nodiscard]] Result<UniqueFd> begin_connect(const SocketAddress& address,
                                             std::chrono::milliseconds stall_timeout);

struct ConnectOutcome {
  int errno_value = 0;        // 0: connected
  bool process_dead = false;  // the peer's kernel itself said that nobody listens
};
// Tells a refusal by the peer's kernel (RST) from one by a firewall on the way (ICMP).
[[nodiscard]] ConnectOutcome connect_outcome(int fd);

// No delay for small messages; an idle connection is probed once a second. A peer that leaves bytes
// waiting for stall_timeout, whether its kernel answers or not, makes the socket fail.
Status set_link_options(int fd, std::chrono::milliseconds stall_timeout);

// What the kernel knows of the other end; nothing alarming if it does not tell.
[[nodiscard]] AnswerWatch::Sample sample_answers(int fd);

// Closing the socket sends nothing more of what waits in it, and tells the other end at once.
void close_abruptly(int fd);

// What a failed read or write on a link means.
[[nodiscard]] DownReason down_reason(int errno_value);

}  // namespace gob
