// One connection of a ControlServer: its socket, what came and is not a whole request yet, and what
// waits to be sent. Owned by the server's thread.
#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/runtime/control_handler.h"
#include "libgob/runtime/control_wire.h"

namespace gob {

class ControlConnection {
 public:
  ControlConnection(ClientId id, UniqueFd socket, PeerCredentials peer)
      : id_(id), socket_(std::move(socket)), peer_(std::move(peer)) {}

  [[nodiscard]] ClientId id() const { return id_; }
  [[nodiscard]] int fd() const { return socket_.get(); }
  [[nodiscard]] const PeerCredentials& peer() const { return peer_; }
  // For logs: who it is.
  [[nodiscard]] std::string describe() const;

  // One read. false: nothing more now. An error with errno 0 and kUnavailable is an orderly end.
  Result<bool> read(std::span<char> scratch);
  struct Incoming {
    control::Request request;
    std::vector<UniqueFd> fds;
    std::optional<Error> no_room;  // for these: there are none
  };
  Result<std::optional<Incoming>> next_request();

  // Queues a reply and sends what the socket takes.
  Status send(const control::Reply& reply, std::vector<UniqueFd> fds);
  Status flush();
  [[nodiscard]] bool has_output() const { return !output_.empty(); }
  // So much output waits that no more requests should be read.
  [[nodiscard]] bool congested() const;

  // State kept by the server.
  bool greeted = false;        // Hello was accepted
  bool closing = false;        // ends as soon as its output is sent
  bool broken = false;         // ends at once
  std::size_t in_flight = 0;   // requests the handler has not answered
  std::uint32_t interest = 0;  // epoll events asked for

 private:
  struct Output {
    std::string bytes;
    std::size_t sent = 0;
    std::vector<UniqueFd> fds;  // sent with the first byte
  };

  ClientId id_;
  UniqueFd socket_;
  PeerCredentials peer_;
  FrameReader reader_{kMaxControlRequestBytes};
  std::vector<UniqueFd> incoming_fds_;
  std::deque<Output> output_;
  std::size_t output_bytes_ = 0;
};

// SO_PEERCRED and SO_PEERGROUPS.
Result<PeerCredentials> peer_credentials(int socket);

}  // namespace gob
