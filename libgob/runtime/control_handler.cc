#include "libgob/runtime/control_handler.h"

#include <algorithm>
#include <utility>

#include "libgob/runtime/control_wire.h"

namespace gob {

bool PeerCredentials::in_group(gid_t group) const {
  return gid == group || std::binary_search(groups.begin(), groups.end(), group);
}

Responder& Responder::operator=(Responder&& other) noexcept {
  if (this != &other) {
    abandon();
    sink_ = std::move(other.sink_);
    client_ = other.client_;
    request_id_ = other.request_id_;
  }
  return *this;
}

void Responder::reply(control::Reply body, std::vector<UniqueFd> fds) {
  const auto sink = std::exchange(sink_, {}).lock();
  if (sink == nullptr) return;
  body.set_id(request_id_);
  body.set_fds(static_cast<std::uint32_t>(fds.size()));
  sink->deliver(client_, std::move(body), std::move(fds));
}

void Responder::fail(const Error& error) {
  control::Reply body;
  set_error(error, body);
  reply(std::move(body));
}

void Responder::abandon() {
  if (sink_.expired()) return;
  fail(make_error(ErrorCode::kSystem, "gobd gave this request up without an answer", EIO));
}

}  // namespace gob
