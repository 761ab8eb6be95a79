#include "libgob/transport/channel.h"
#include "libgob/transport/transport.h"

namespace gob {

const char* to_string(DownReason reason) {
  switch (reason) {
    case DownReason::kClosed:
      return "closed by peer";
    case DownReason::kReset:
      return "reset";
    case DownReason::kTimedOut:
      return "timed out";
    case DownReason::kProtocol:
      return "protocol violation";
    case DownReason::kLocal:
      return "dropped here";
  }
  return "?";
}

const char* to_string(PeerState state) {
  switch (state) {
    case PeerState::kConnecting:
      return "connecting";
    case PeerState::kConnected:
      return "connected";
    case PeerState::kRefused:
      return "refused";
    case PeerState::kUnreachable:
      return "unreachable";
  }
  return "?";
}

}  // namespace gob
