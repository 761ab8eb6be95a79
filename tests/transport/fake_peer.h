// A peer made of a plain blocking socket: says to a node's port whatever a test wants.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "libgob/base/unique_fd.h"
#include "libgob/transport/handshake.h"
#include "libgob/transport/tcp_transport.h"

namespace gob::test {

class FakePeer {
 public:
  // Connects to the port of node `to`; fails the test if nobody listens.
  FakePeer(const TcpConfig& target);

  void say(const std::string& bytes);
  void say(const Hello& hello);
  // The next hello, or nothing when the node closes the connection or is silent for long.
  std::optional<Hello> hear();
  // Reads and forgets until the node closes the connection; false if it does not for long.
  bool closed();

  // A hello that the node should welcome, as if from `self`.
  [[nodiscard]] Hello hello(unsigned self, std::uint8_t channel, std::uint64_t incarnation) const;
  // The whole handshake; true if the node answered as it should.
  bool shake_hands(unsigned self, std::uint8_t channel, std::uint64_t incarnation);

 private:
  const TcpConfig target_;
  UniqueFd socket_;
};

}  // namespace gob::test
