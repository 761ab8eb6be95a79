#include "tests/transport/fake_peer.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>

namespace gob::test {
namespace {

constexpr int kPatienceMs = 30000;

}  // namespace

FakePeer::FakePeer(const TcpConfig& target)
    : target_(target), socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  const PeerAddress& at = target_.nodes[target_.self.value()];
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(at.port);
  ::inet_pton(AF_INET, at.host.c_str(), &address.sin_addr);
  EXPECT_EQ(::connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
}

void FakePeer::say(const std::string& bytes) {
  // The node may close the connection at any time: that is for the test to find out otherwise.
  [[maybe_unused]] const auto n = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
}

void FakePeer::say(const Hello& hello) {
  std::array<std::byte, kHelloBytes> bytes;
  encode(hello, bytes);
  say(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

std::optional<Hello> FakePeer::hear() {
  std::array<std::byte, kHelloBytes> bytes;
  for (std::size_t have = 0; have < bytes.size();) {
    pollfd p{socket_.get(), POLLIN, 0};
    if (::poll(&p, 1, kPatienceMs) != 1) return std::nullopt;
    const ssize_t n = ::recv(socket_.get(), bytes.data() + have, bytes.size() - have, 0);
    if (n <= 0) return std::nullopt;
    have += static_cast<std::size_t>(n);
  }
  Hello hello;
  if (decode(bytes, hello) != HelloFault::kNone) return std::nullopt;
  return hello;
}

bool FakePeer::closed() {
  char bytes[4096];
  for (;;) {
    pollfd p{socket_.get(), POLLIN, 0};
    if (::poll(&p, 1, kPatienceMs) != 1) return false;
    if (::recv(socket_.get(), bytes, sizeof bytes, 0) <= 0) return true;
  }
}

Hello FakePeer::hello(unsigned self, std::uint8_t channel, std::uint64_t incarnation) const {
  return {.kind = HelloKind::kHello,
          .channel = channel,
          .shards = static_cast<std::uint8_t>(target_.shards),
          .node = NodeId{static_cast<std::uint16_t>(self)},
          .target = target_.self,
          .cluster = cluster_hash(target_.cluster),
          .incarnation = incarnation};
}

bool FakePeer::shake_hands(unsigned self, std::uint8_t channel, std::uint64_t incarnation) {
  Hello own = hello(self, channel, incarnation);
  say(own);
  const auto answer = hear();
  if (!answer || answer->kind != HelloKind::kHello) return false;
  own.kind = HelloKind::kConfirm;
  own.target_incarnation = answer->incarnation;
  say(own);
  return true;
}

}  // namespace gob::test
