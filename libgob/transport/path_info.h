// How a peer is reached, for people and statistics. Plain values.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace gob {

// The way of one channel's messages to one peer.
struct PathInfo {
  std::string transport;  // "verbs", "tcp", "memory"; empty: not connected
  std::string reason;     // why it is TCP
  // Verbs only, and after a fall-back to TCP what it was before.
  std::string device;
  unsigned port = 0;
  std::string gid;
  unsigned mtu_bytes = 0;
  std::uint32_t queue_pair = 0;
  std::string queue_pair_state;            // "RTS": works
  std::uint64_t chunks_out = 0;            // RDMA writes with messages
  std::uint64_t acknowledgements_out = 0;  // RDMA writes without
  std::uint64_t no_room = 0;               // messages that had to wait for acknowledgements
  std::uint64_t completion_errors = 0;
  std::uint64_t fall_backs = 0;  // to TCP, since the channel was made
};

// The RDMA device of a node.
struct RdmaInfo {
  std::string device;                             // "rxe0 port 1, GID ..., MTU ...", or empty
  std::string reason;                             // why there is none
  std::map<std::string, std::uint64_t> counters;  // the driver's own: retries, lost packets, ...
};

}  // namespace gob
