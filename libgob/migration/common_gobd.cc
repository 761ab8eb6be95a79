#include "libgob/migration/common_gobd.h"

#include <poll.h>

#include <cerrno>

namespace gob::migration {
namespace {

constexpr std::chrono::seconds kAnswer{2};

}  // namespace

// One that dies while it is asked is not there any more the second time.
bool gobd_lives(const std::string& gobd) {
  for (int tries = 0; tries < 2; ++tries) {
    const auto connected = ControlClient::connect(gobd, "gobmigrate", kAnswer);
    if (connected || connected.error().code == ErrorCode::kTimedOut) return true;
    const int why = connected.error().errno_value;
    if (why == ECONNREFUSED || why == ENOENT) return false;
  }
  return true;
}

Gobd KeepersGobd::state() {
  if (is_gone()) return Gobd::kGone;
  return forgot_ ? Gobd::kForgot : Gobd::kServes;
}

// By a question that all shards answer. It may be heard in one batch with the keeper's death, and
// before that; the second one is not.
void KeepersGobd::let_forget() {
  if (forgot_ || is_gone()) return;
  if (!client_) connect();
  for (int tries = 0; client_ && tries < 2; ++tries) {
    control::Request request;
    request.mutable_stat();
    if (!client_->call(request, {}, kAnswer)) return;
  }
  forgot_ = client_ != nullptr;
}

void KeepersGobd::connect() {
  if (auto made = ControlClient::connect(path_, "gobmigrate", kAnswer)) client_ = std::move(*made);
}

bool KeepersGobd::is_gone() {
  if (gone_) return true;
  if (!client_) {  // to ask takes as long as a try to connect
    const auto now = std::chrono::steady_clock::now();
    if (now < next_look_) return false;
    next_look_ = now + kAnswer;
    return gone_ = !gobd_lives(path_);
  }
  pollfd ended{client_->fd(), POLLRDHUP, 0};
  return gone_ = ::poll(&ended, 1, 0) == 1;
}

}  // namespace gob::migration
