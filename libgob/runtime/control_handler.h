// What a daemon implements to answer control requests. ControlServer calls it; everything here
// belongs to the server's thread (gobd: the control thread).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "libgob/base/ids.h"
#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/runtime/control.pb.h"

namespace gob {

// One connection of a program; never used again for another one while the server lives.
using ClientId = StrongId<struct ClientTag, std::uint64_t>;

// Who is at the other end, by the kernel's word when it connected.
struct PeerCredentials {
  uid_t uid = 0;
  gid_t gid = 0;
  pid_t pid = 0;              // in the server's pid namespace; 0 if it is in none that we see
  std::vector<gid_t> groups;  // supplementary, ascending

  [[nodiscard]] bool in_group(gid_t group) const;
};

// Where Responders hand their answer in. Implemented by the server.
class ReplySink {
 public:
  virtual ~ReplySink() = default;
  virtual void deliver(ClientId client, control::Reply reply, std::vector<UniqueFd> fds) = 0;
};

// The right to answer one request, once, now or later, on the server's thread. An answer to a
// client or server that is gone goes nowhere. Dropped unused it answers with an error, so that no
// program waits for ever.
class Responder {
 public:
  Responder(std::weak_ptr<ReplySink> sink, ClientId client, std::uint64_t request_id)
      : sink_(std::move(sink)), client_(client), request_id_(request_id) {}
  Responder(Responder&&) noexcept = default;
  Responder& operator=(Responder&& other) noexcept;
  Responder(const Responder&) = delete;
  Responder& operator=(const Responder&) = delete;
  ~Responder() { abandon(); }

  // Done, with nothing to tell.
  void done() { reply({}); }
  // `body`: a Reply whose id and fds are filled in here.
  void reply(control::Reply body, std::vector<UniqueFd> fds = {});
  void fail(const Error& error);

 private:
  void abandon();

  std::weak_ptr<ReplySink> sink_;  // empty once answered or moved from
  ClientId client_;
  std::uint64_t request_id_;
};

class ControlHandler {
 public:
  virtual ~ControlHandler() = default;

  // A request of a client whose first one, Hello, had the right protocol version (Hello comes here
  // too, for its reply). `request` holds during the call only; its body may be one this release
  // does not know (BODY_NOT_SET): refuse it with kUnsupported. `fds` are request.fds() descriptors
  // of kinds the client chose: check before use. May answer at once or keep the responder.
  virtual void on_request(ClientId client, const PeerCredentials& peer,
                          const control::Request& request, std::vector<UniqueFd> fds,
                          Responder responder) = 0;

  // The connection ended, whatever the reason: release what the client held. Once for each client
  // that was seen in on_request, never from inside on_request or a Responder.
  virtual void on_disconnect(ClientId client) = 0;
};

}  // namespace gob
