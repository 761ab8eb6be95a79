#include "gobbench/raw_tcp.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <optional>
#include <vector>

#include "libgob/base/unique_fd.h"
#include "libgob/linker/cache_sweep.h"

namespace gob::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::size_t kWriteBytes = std::size_t{256} * 1024;

double median_us(std::vector<std::uint64_t>& ns) {
  std::sort(ns.begin(), ns.end());
  return static_cast<double>(ns[ns.size() / 2]) * 1e-3;
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
  if (Status s = run_tcp_pair(places, server, client); !s) return s.error();
  return samples;
}

Result<TcpExchange> tcp_exchange(const TcpPlaces& places, std::size_t bytes_out,
                                 std::size_t bytes_back, unsigned rounds, std::span<double> swept) {
  std::vector<std::uint64_t> sends;
  std::vector<std::uint64_t> rounds_ns;
  const auto server = [&](int fd) -> Status {
    std::vector<std::byte> buffer(std::max(bytes_out, bytes_back));
    for (unsigned i = 0; i < rounds; ++i) {
      if (Status s = receive_all(fd, buffer.data(), bytes_out); !s) return s;
      if (Status s = send_all(fd, buffer.data(), bytes_back); !s) return s;
    }
    return {};
  };
  const auto client = [&](int fd) -> Status {
    std::vector<std::byte> buffer(std::max(bytes_out, bytes_back));
    for (unsigned i = 0; i < rounds; ++i) {
      sweep_cache(swept);
      const auto begin = Clock::now();
      if (Status s = send_all(fd, buffer.data(), bytes_out); !s) return s;
      const std::chrono::nanoseconds send = Clock::now() - begin;
      if (Status s = receive_all(fd, buffer.data(), bytes_back); !s) return s;
      const std::chrono::nanoseconds round = Clock::now() - begin;
      sends.push_back(static_cast<std::uint64_t>(send.count()));
      rounds_ns.push_back(static_cast<std::uint64_t>(round.count()));
    }
    return {};
  };
  if (Status s = run_tcp_pair(places, server, client); !s) return s.error();
  return TcpExchange{median_us(rounds_ns), median_us(sends)};
}

Result<TcpCalls> tcp_calls(std::size_t bytes, unsigned rounds, std::span<double> swept) {
  const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const UniqueFd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = tcp_address("127.0.0.1", 0);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  socklen_t length = sizeof(address);
  if (!listener || !client || ::bind(listener.get(), generic, length) != 0 ||
      ::listen(listener.get(), 1) != 0 || ::getsockname(listener.get(), generic, &length) != 0 ||
      ::connect(client.get(), generic, length) != 0)
    return system_error("raw TCP: cannot connect to this program");
  const UniqueFd server(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!server) return system_error("raw TCP: nobody connected");
  for (const int fd : {client.get(), server.get()})
    if (Status s = set_up_tcp(fd); !s) return s.error();
  std::vector<std::byte> buffer(bytes);
  std::vector<std::uint64_t> sends;
  std::vector<std::uint64_t> receives;
  const auto timed = [&](std::vector<std::uint64_t>& samples, auto&& call) {
    sweep_cache(swept);
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
  return TcpCalls{median_us(sends), median_us(receives)};
}

std::string tcp_congestion() {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  std::array<char, 16> name{};  // TCP_CA_NAME_MAX
  socklen_t length = name.size();
  if (!fd || ::getsockopt(fd.get(), IPPROTO_TCP, TCP_CONGESTION, name.data(), &length) != 0)
    return "unknown";
  return std::string(name.data(), ::strnlen(name.data(), length));
}

Result<double> tcp_stream(const TcpPlaces& places, std::uint64_t bytes,
                          const std::string& congestion) {
  double seconds = 0;
  const auto server = [&](int fd) -> Status {
    if (!congestion.empty() && ::setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestion.data(),
                                            static_cast<socklen_t>(congestion.size())) != 0)
      return system_error("raw TCP: cannot choose " + congestion + " as congestion control");
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
  if (Status s = run_tcp_pair(places, server, client); !s) return s.error();
  return static_cast<double>(bytes) / seconds;
}

}  // namespace gob::bench
