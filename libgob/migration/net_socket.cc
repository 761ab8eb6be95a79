#include "libgob/migration/net_socket.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "libgob/base/unique_fd.h"
#include "libgob/migration/inspect.h"
#include "libgob/migration/proc.h"
#include "libgob/migration/program.h"

namespace gob::migration {
namespace {

namespace fs = std::filesystem;

int option(int fd, int level, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  return ::getsockopt(fd, level, name, &value, &size) == 0 ? value : -1;
}

// Address and port; an IPv4 address in IPv6's clothes is one of IPv4.
std::pair<std::string, std::uint16_t> name_of(const sockaddr_storage& at) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (at.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(at);
    const bool any = v4.sin_addr.s_addr == INADDR_ANY;
    if (!any) ::inet_ntop(AF_INET, &v4.sin_addr, text.data(), text.size());
    return {text.data(), ntohs(v4.sin_port)};
  }
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(at);
  if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
    ::inet_ntop(AF_INET, v6.sin6_addr.s6_addr + 12, text.data(), text.size());
    if (std::string_view(text.data()) == "0.0.0.0") text[0] = '\0';
  } else if (!IN6_IS_ADDR_UNSPECIFIED(&v6.sin6_addr)) {
    ::inet_ntop(AF_INET6, &v6.sin6_addr, text.data(), text.size());
  }
  return {text.data(), ntohs(v6.sin6_port)};
}

}  // namespace

std::optional<NetSocket> net_socket(pid_t pid, int fd) {
  const UniqueFd socket = copy_descriptor(pid, fd);
  if (!socket) return std::nullopt;
  const int domain = option(socket.get(), SOL_SOCKET, SO_DOMAIN);
  const int protocol = option(socket.get(), SOL_SOCKET, SO_PROTOCOL);
  if ((domain != AF_INET && domain != AF_INET6) ||
      (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP))
    return std::nullopt;
  NetSocket found;
  found.tcp = protocol == IPPROTO_TCP;
  found.reuse_address = option(socket.get(), SOL_SOCKET, SO_REUSEADDR) > 0;
  sockaddr_storage at{};
  socklen_t size = sizeof at;
  if (::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&at), &size) == 0)
    std::tie(found.local, found.local_port) = name_of(at);
  size = sizeof at;
  if (::getpeername(socket.get(), reinterpret_cast<sockaddr*>(&at), &size) == 0) {
    found.state = NetSocket::State::kConnected;
    std::tie(found.remote, found.remote_port) = name_of(at);
  } else if (found.tcp && option(socket.get(), SOL_SOCKET, SO_ACCEPTCONN) == 1) {
    found.state = NetSocket::State::kListening;
  }
  return found;
}

bool is_loopback(const std::string& address) {
  return address.starts_with("127.") || address == "::1";
}

std::uint16_t other_port_at(const std::string& address, const std::vector<std::uint64_t>& inodes) {
  in_addr wanted{};
  if (::inet_pton(AF_INET, address.c_str(), &wanted) != 1) return 0;
  for (const char* table : {"tcp", "tcp6", "udp", "udp6"}) {
    std::ifstream file(std::string("/proc/self/net/") + table);
    std::string line;
    std::getline(file, line);  // the heads of its columns
    while (std::getline(file, line)) {
      std::istringstream words(line);
      std::string slot, local, skipped;
      std::uint64_t inode = 0;
      words >> slot >> local;
      for (int i = 0; i < 7; ++i) words >> skipped;
      words >> inode;
      const std::size_t colon = local.find(':');
      // The last four bytes, also of an IPv6 address that holds one of IPv4.
      if (inode == 0 || colon == std::string::npos || colon < 8 ||
          (colon > 8 && local.compare(16, 8, "FFFF0000") != 0))
        continue;
      if (std::strtoul(local.substr(colon - 8, 8).c_str(), nullptr, 16) == wanted.s_addr &&
          std::ranges::find(inodes, inode) == inodes.end())
        return static_cast<std::uint16_t>(
            std::strtoul(local.c_str() + colon + 1, nullptr, 16));
    }
  }
  return 0;
}

void wake_connections(pid_t root, const std::vector<NetSocket>& sockets) {
  for (const pid_t pid : tree_of(root)) {
    std::error_code error;
    for (fs::directory_iterator it(proc(pid, "fd"), error), end; !error && it != end;
         it.increment(error)) {
      const int fd = std::atoi(it->path().filename().c_str());
      const auto socket = net_socket(pid, fd);
      if (!socket || !socket->tcp) continue;
      const UniqueFd copy = copy_descriptor(pid, fd);
      if (option(copy.get(), IPPROTO_TCP, TCP_REPAIR) != 1) continue;
      const int off = 0;
      ::setsockopt(copy.get(), IPPROTO_TCP, TCP_REPAIR, &off, sizeof off);
      // The kernel forgets it on the way.
      const int reuse = std::ranges::any_of(sockets, [&](const NetSocket& known) {
        return known.local_port == socket->local_port && known.remote == socket->remote &&
               known.remote_port == socket->remote_port && known.reuse_address;
      });
      ::setsockopt(copy.get(), SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse);
    }
  }
}

void remove_criu_tables(pid_t inside, const std::vector<NetSocket>& sockets) {
  const auto rules = run_program({"nft", "list", "ruleset"});
  if (!rules) return;  // there can be none
  // Newer releases of CRIU give the table another name, but put the connections in it all the same.
  std::vector<std::string> ends;
  for (const NetSocket& socket : sockets)
    if (socket.tcp && socket.state == NetSocket::State::kConnected)
      ends.push_back(socket.local + " . " + std::to_string(socket.local_port) + " . " +
                     socket.remote + " . " + std::to_string(socket.remote_port));
  std::istringstream lines(*rules);
  std::string table;
  std::vector<std::string> ours;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("table ")) {
      table = line.substr(6, line.find(" {") - 6);
      if (table == "inet CRIU-" + std::to_string(inside)) ours.push_back(table);
    }
    const bool holds = std::ranges::any_of(
        ends, [&](const std::string& end) { return line.find(end) != std::string::npos; });
    if (holds && table.starts_with("inet CRIU-") && std::ranges::find(ours, table) == ours.end())
      ours.push_back(table);
  }
  for (const std::string& each : ours)
    static_cast<void>(run_program({"nft", "delete", "table", "inet", each.substr(5)}));
}

}  // namespace gob::migration
