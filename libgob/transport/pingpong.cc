#include "libgob/transport/pingpong.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

#include "libgob/base/unique_fd.h"

namespace gob {
namespace {

using Clock = std::chrono::steady_clock;

std::uint64_t since(Clock::time_point start) {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count());
}

bool write_all(int fd, const std::vector<char>& bytes, std::size_t count) {
  for (std::size_t done = 0; done < count;) {
    const ssize_t n = ::send(fd, bytes.data() + done, count - done, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    done += static_cast<std::size_t>(n);
  }
  return true;
}

bool read_all(int fd, std::vector<char>& bytes, std::size_t count) {
  for (std::size_t done = 0; done < count;) {
    const ssize_t n = ::recv(fd, bytes.data() + done, count - done, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    done += static_cast<std::size_t>(n);
  }
  return true;
}

// Two ends of a connection over the loopback network, without delay for small messages.
Result<std::pair<UniqueFd, UniqueFd>> connected_pair() {
  const auto failed = [] { return system_error("raw TCP measurement on 127.0.0.1"); };
  const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  UniqueFd near(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!listener || !near) return failed();
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t bytes = sizeof address;
  if (::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), bytes) != 0 ||
      ::listen(listener.get(), 1) != 0 ||
      ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &bytes) != 0 ||
      ::connect(near.get(), reinterpret_cast<sockaddr*>(&address), bytes) != 0) {
    return failed();
  }
  UniqueFd far(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!far) return failed();
  const int on = 1;
  for (const int fd : {near.get(), far.get()}) {
    if (::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) return failed();
  }
  return std::pair(std::move(near), std::move(far));
}

}  // namespace

Result<std::vector<std::uint64_t>> measure_raw_tcp(std::size_t bytes_out, std::size_t bytes_back,
                                                   std::size_t rounds) {
  auto pair = connected_pair();
  if (!pair) return pair.error();
  const int near = pair->first.get();
  const int far = pair->second.get();
  std::thread echo([&] {
    std::vector<char> buffer(std::max(bytes_out, bytes_back));
    while (read_all(far, buffer, bytes_out) && write_all(far, buffer, bytes_back)) {
    }
  });
  std::vector<char> buffer(std::max(bytes_out, bytes_back));
  std::vector<std::uint64_t> times;
  times.reserve(rounds);
  bool ok = bytes_out > 0 && bytes_back > 0;
  for (std::size_t i = 0; i < rounds && ok; ++i) {
    const auto start = Clock::now();
    ok = write_all(near, buffer, bytes_out) && read_all(near, buffer, bytes_back);
    times.push_back(since(start));
  }
  const int error = errno;
  ::shutdown(near, SHUT_RDWR);
  echo.join();
  if (!ok) {
    return make_error(ErrorCode::kSystem, "raw TCP ping-pong on 127.0.0.1 broke off",
                      bytes_out > 0 && bytes_back > 0 ? error : EINVAL);
  }
  return times;
}

Result<std::uint64_t> measure_raw_tcp_stream(std::size_t bytes, std::size_t bytes_per_write) {
  if (bytes_per_write == 0) {
    return make_error(ErrorCode::kInvalidArgument, "raw TCP stream: writes of 0 bytes");
  }
  auto pair = connected_pair();
  if (!pair) return pair.error();
  const int near = pair->first.get();
  const int far = pair->second.get();
  const auto start = Clock::now();
  std::thread sender([&] {
    const std::vector<char> buffer(bytes_per_write);
    for (std::size_t left = bytes; left > 0;) {
      const std::size_t now = std::min(left, bytes_per_write);
      if (!write_all(near, buffer, now)) break;
      left -= now;
    }
    ::shutdown(near, SHUT_WR);
  });
  std::vector<char> buffer(std::size_t{512} * 1024);
  std::size_t received = 0;
  for (;;) {
    const ssize_t n = ::recv(far, buffer.data(), buffer.size(), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    received += static_cast<std::size_t>(n);
  }
  const std::uint64_t elapsed = since(start);
  sender.join();
  if (received != bytes) {
    return make_error(ErrorCode::kSystem, "raw TCP stream on 127.0.0.1 broke off after " +
                                              std::to_string(received) + " bytes");
  }
  return elapsed;
}

}  // namespace gob
