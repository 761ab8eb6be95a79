// ControlServer: takes control connections and turns their bytes into calls of a ControlHandler.
// Everything is bounded; a connection that sends what no correct program sends is closed with one
// log line. One thread owns it (gobd: the control thread); it never blocks.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/runtime/control_connection.h"
#include "libgob/runtime/control_handler.h"
#include "libgob/runtime/control_listener.h"

namespace gob {

struct ControlServerOptions {
  std::string path;
  mode_t mode = 0666;  // who may connect; containers have permissions of their own
  std::size_t max_connections = 256;
  std::size_t reserved_connections = 8;  // of these, kept for root and the server's own user
  std::size_t max_in_flight = 1024;      // unanswered requests of a connection; more are refused
};

class ControlServer final {
 public:
  // `handler` outlives the server.
  static Result<std::unique_ptr<ControlServer>> listen(ControlServerOptions options,
                                                       ControlHandler& handler);
  // Closes every connection (on_disconnect for each) and removes the socket file.
  ~ControlServer();
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

  // Readable (epoll, poll) when poll() has work.
  [[nodiscard]] int fd() const { return epoll_.get(); }
  // Does the work there is now, in bounded pieces; calls the handler. Not to be called by it.
  void poll();

  [[nodiscard]] std::size_t connections() const { return connections_.size(); }
  // Ends a connection at the next poll(); on_disconnect follows.
  void disconnect(ClientId client, const std::string& reason);

 private:
  class Sink;

  ControlServer(ControlServerOptions options, ControlHandler& handler, ControlListener listener,
                UniqueFd epoll, UniqueFd spare);
  void accept_all();
  Status admit(UniqueFd socket);
  void refuse(UniqueFd socket, const Error& error);
  void serve(ControlConnection& connection, std::uint32_t events);
  void dispatch(ControlConnection& connection, ControlConnection::Incoming& incoming);
  // False: refused, and the connection ends when the refusal is sent.
  bool greet(ControlConnection& connection, const control::Request& request);
  void deliver(ClientId client, control::Reply reply, std::vector<UniqueFd> fds);
  void set_interest(ControlConnection& connection, std::uint32_t wanted);
  void fail(ControlConnection& connection, const Error& error);
  void drop(ControlConnection& connection);
  void reap();
  void close(ClientId client);

  const ControlServerOptions options_;
  ControlHandler& handler_;
  ControlListener listener_;
  UniqueFd epoll_;
  UniqueFd spare_;  // closed for a moment to refuse a connection when there are no descriptors left
  std::shared_ptr<Sink> sink_;
  std::uint64_t next_client_ = 1;
  std::unordered_map<std::uint64_t, std::unique_ptr<ControlConnection>> connections_;
  std::vector<ClientId> broken_;  // to be closed at the end of poll()
  std::vector<char> scratch_;     // what one read brings
};

}  // namespace gob
