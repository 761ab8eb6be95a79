// Sockets of TCP and UDP that a process has, as their owner would see them, and what CRIU leaves at
// the connections of a process that it has dumped. Functions over /proc and pidfd_getfd(2), as
// root; one thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace gob::migration {

struct NetSocket {
  enum class State { kIdle, kListening, kConnected };  // of UDP: kIdle or kConnected
  bool tcp = false;
  State state = State::kIdle;
  std::string local;  // address as text; empty: any, or none yet
  std::uint16_t local_port = 0;
  std::string remote;
  std::uint16_t remote_port = 0;
  bool reuse_address = false;  // SO_REUSEADDR
};

// None: descriptor `fd` of the process is no socket of TCP or UDP, or is closed by now.
std::optional<NetSocket> net_socket(pid_t pid, int fd);
bool is_loopback(const std::string& address);
// A local TCP or UDP port of this network namespace which others than the sockets of these inodes
// use at `address`, an IPv4 one; 0: none.
std::uint16_t other_port_at(const std::string& address, const std::vector<std::uint64_t>& inodes);

// CRIU dumps connections in a state in which the kernel neither sends nor acknowledges anything, and
// has their packets dropped by a table of nftables. If the process is to go on here, both end here.
void wake_connections(pid_t root, const std::vector<NetSocket>& sockets);
// Removes that table: of these connections, or of a process with that number in its namespace.
void remove_criu_tables(pid_t inside, const std::vector<NetSocket>& sockets);

}  // namespace gob::migration
