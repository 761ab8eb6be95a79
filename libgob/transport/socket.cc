#include "libgob/transport/socket.h"

#include <arpa/inet.h>
#include <linux/errqueue.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <cstring>
#include <memory>

namespace gob {
namespace {

constexpr int kBacklog = 1024;
constexpr std::string_view kCongestionControl = "cubic";

Status set_option(int fd, int level, int name, int value, const char* what) {
  if (::setsockopt(fd, level, name, &value, sizeof value) == 0) return {};
  return system_error(std::string("peer socket: cannot set ") + what + " to " +
                      std::to_string(value));
}

std::uint16_t port_of(const SocketAddress& address) {
  if (address.family() == AF_INET6) {
    return ntohs(reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_port);
  }
  return ntohs(reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_port);
}

Result<std::vector<SocketAddress>> look_up(const std::string& host, std::uint16_t port, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int status = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (status != 0) {
    return make_error(ErrorCode::kNotFound, "address of host '" + host +
                                                "': " + ::gai_strerror(status) +
                                                "; check 'host' in the list of nodes");
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, ::freeaddrinfo);
  std::vector<SocketAddress> addresses;
  for (const addrinfo* a = found; a != nullptr; a = a->ai_next) {
    if (a->ai_family != AF_INET && a->ai_family != AF_INET6) continue;
    SocketAddress address;
    std::memcpy(&address.storage, a->ai_addr, a->ai_addrlen);
    address.bytes = a->ai_addrlen;
    addresses.push_back(address);
  }
  if (addresses.empty()) {
    return make_error(ErrorCode::kNotFound,
                      "address of host '" + host + "': it has no IPv4 or IPv6 address");
  }
  return addresses;
}

}  // namespace

std::string host_of(const SocketAddress& address) {
  char text[INET6_ADDRSTRLEN] = "?";
  if (address.family() == AF_INET6) {
    const auto* in6 = reinterpret_cast<const sockaddr_in6*>(&address.storage);
    ::inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof text);
  } else if (address.family() == AF_INET) {
    const auto* in = reinterpret_cast<const sockaddr_in*>(&address.storage);
    ::inet_ntop(AF_INET, &in->sin_addr, text, sizeof text);
  }
  return text;
}

std::string to_string(const SocketAddress& address) {
  const std::string port = std::to_string(port_of(address));
  if (address.family() == AF_INET6) return "[" + host_of(address) + "]:" + port;
  return host_of(address) + ":" + port;
}

Result<std::vector<SocketAddress>> resolve(const std::string& host, std::uint16_t port) {
  return look_up(host, port, 0);
}

Result<UniqueFd> listen_on(const std::string& host, std::uint16_t port) {
  auto addresses = look_up(host, port, AI_PASSIVE);
  if (!addresses) return addresses.error();
  const SocketAddress& address = addresses->front();
  const std::string where = to_string(address);
  UniqueFd fd(::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return system_error("listen for peers on " + where + ": cannot make a socket");
  // A restarted node must get its port back while connections of the old process linger.
  if (auto set = set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR"); !set) {
    return set.error();
  }
  if (::bind(fd.get(), address.get(), address.bytes) != 0) {
    const bool taken = errno == EADDRINUSE;
    const bool foreign = errno == EADDRNOTAVAIL;
    return system_error("listen for peers on " + where +
                        (taken     ? " (is another gobd running there?)"
                         : foreign ? " (this machine does not have that address)"
                                   : ""));
  }
  if (::listen(fd.get(), kBacklog) != 0) return system_error("listen for peers on " + where);
  return fd;
}

Result<UniqueFd> begin_connect(const SocketAddress& address,
                               std::chrono::milliseconds stall_timeout) {
  const std::string where = to_string(address);
  UniqueFd fd(::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return system_error("connect to " + where + ": cannot make a socket");
  const bool v6 = address.family() == AF_INET6;
  if (auto set = set_option(fd.get(), v6 ? SOL_IPV6 : SOL_IP, v6 ? IPV6_RECVERR : IP_RECVERR, 1,
                            "RECVERR");
      !set) {
    return set.error();
  }
  if (auto set = set_link_options(fd.get(), stall_timeout); !set) return set.error();
  // An immediate refusal is left for connect_outcome() to judge.
  if (::connect(fd.get(), address.get(), address.bytes) != 0 && errno != EINPROGRESS &&
      errno != ECONNREFUSED) {
    return system_error("connect to " + where);
  }
  return fd;
}

ConnectOutcome connect_outcome(int fd) {
  ConnectOutcome outcome;
  socklen_t bytes = sizeof outcome.errno_value;
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &outcome.errno_value, &bytes) != 0) {
    outcome.errno_value = errno;
    return outcome;
  }
  if (outcome.errno_value == 0) {
    // Where nobody listens on an ephemeral port of this machine, TCP may connect a socket to
    // itself.
    SocketAddress own;
    SocketAddress peer;
    own.bytes = peer.bytes = sizeof own.storage;
    if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer.storage), &peer.bytes) != 0) {
      outcome.errno_value = ECONNREFUSED;  // connect() had told already, and SO_ERROR tells once
    } else if (::getsockname(fd, reinterpret_cast<sockaddr*>(&own.storage), &own.bytes) == 0 &&
               to_string(own) == to_string(peer)) {
      return {ECONNREFUSED, true};
    }
  }
  if (outcome.errno_value != ECONNREFUSED) return outcome;
  // A firewall's ICMP answer is queued as an extended error; the peer's own RST is not.
  std::byte control[512];
  msghdr message{};
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  outcome.process_dead = ::recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0;
  return outcome;
}

Status set_link_options(int fd, std::chrono::milliseconds stall_timeout) {
  const int timeout_ms =
      static_cast<int>(std::clamp<std::int64_t>(stall_timeout.count(), 1, 3600000));
  const int probes = std::max(1, (timeout_ms + 999) / 1000);
  struct {
    int level, name, value;
    const char* what;
  } const options[] = {
      {IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY"},
      {IPPROTO_TCP, TCP_USER_TIMEOUT, timeout_ms, "TCP_USER_TIMEOUT"},
      {SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE"},
      {IPPROTO_TCP, TCP_KEEPIDLE, 1, "TCP_KEEPIDLE"},
      {IPPROTO_TCP, TCP_KEEPINTVL, 1, "TCP_KEEPINTVL"},
      {IPPROTO_TCP, TCP_KEEPCNT, probes, "TCP_KEEPCNT"},
  };
  for (const auto& option : options) {
    if (auto set = set_option(fd, option.level, option.name, option.value, option.what); !set) {
      return set.error();
    }
  }
  // Nodes of one cluster are near each other. Algorithms that pace what they send, as BBR does, pay
  // a timer for every few packets. Where it cannot be had, the system's own choice does.
  static_cast<void>(::setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, kCongestionControl.data(),
                                 kCongestionControl.size()));
  return {};
}

AnswerWatch::Sample sample_answers(int fd) {
  tcp_info info{};
  socklen_t bytes = sizeof info;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) != 0) return {};
  return {std::chrono::milliseconds(std::min(info.tcpi_last_ack_recv, info.tcpi_last_data_recv)),
          std::chrono::milliseconds(info.tcpi_last_data_sent), info.tcpi_unacked > 0,
          info.tcpi_probes};
}

void close_abruptly(int fd) {
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  static_cast<void>(::setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once));
}

DownReason down_reason(int errno_value) {
  switch (errno_value) {
    case ETIMEDOUT:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
    case ENETDOWN:
      return DownReason::kTimedOut;
    default:
      return DownReason::kReset;
  }
}

}  // namespace gob
