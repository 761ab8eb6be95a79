#include "libgob/migration/ties.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "libgob/base/unique_fd.h"

namespace gob::migration {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kGone = " (deleted)";

// One answer of the kernel: a socket, with attributes.
void take(const nlmsghdr& header, std::map<std::uint64_t, UnixPeer>& sockets) {
  unix_diag_msg message{};
  std::memcpy(&message, NLMSG_DATA(&header), sizeof message);
  UnixPeer& socket = sockets[message.udiag_ino];
  auto left = static_cast<int>(header.nlmsg_len - NLMSG_LENGTH(sizeof message));
  const auto* at = reinterpret_cast<const rtattr*>(static_cast<const char*>(NLMSG_DATA(&header)) +
                                                   NLMSG_ALIGN(sizeof message));
  for (; RTA_OK(at, left); at = RTA_NEXT(at, left)) {
    if (at->rta_type == UNIX_DIAG_NAME) socket.named = true;
    std::uint32_t peer = 0;
    if (at->rta_type == UNIX_DIAG_PEER) std::memcpy(&peer, RTA_DATA(at), sizeof peer);
    if (peer != 0) socket.peer = peer;
  }
}

}  // namespace

void Ties::look_at_file(const std::string& path, std::set<std::string>& shared) const {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return;
  if (const auto found = files_.find({info.st_dev, info.st_ino}); found != files_.end())
    shared.insert(found->second);
}

void Ties::look_at(const std::string& pid, std::set<std::string>& shared) const {
  std::error_code error;
  for (fs::directory_iterator it("/proc/" + pid + "/fd", error), end; !error && it != end;
       it.increment(error)) {
    std::error_code ignored;
    const std::string link = fs::read_symlink(it->path(), ignored).string();
    if (const auto found = links_.find(link); found != links_.end()) shared.insert(found->second);
    if (!files_.empty() && link.ends_with(kGone)) look_at_file(it->path(), shared);
  }
  if (files_.empty()) return;
  std::ifstream maps("/proc/" + pid + "/maps");
  for (std::string line; std::getline(maps, line);)
    if (line.ends_with(kGone))
      look_at_file("/proc/" + pid + "/map_files/" + line.substr(0, line.find(' ')), shared);
}

std::vector<std::string> Ties::outside(const std::function<bool(pid_t)>& stays) const {
  std::map<std::string, std::string> holders;
  if (links_.empty() && files_.empty()) return {};
  std::error_code error;
  for (fs::directory_iterator it("/proc", error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename();
    const auto pid = static_cast<pid_t>(std::strtol(name.c_str(), nullptr, 10));
    std::set<std::string> shared;
    if (pid > 0) look_at(name, shared);
    if (shared.empty() || !stays(pid)) continue;
    for (const std::string& who : shared) holders.emplace(who, name);
  }
  std::vector<std::string> obstacles;
  for (const auto& [who, holder] : holders)
    obstacles.push_back(who + ", which process " + holder +
                        " has, too, and that stays: end it, or start the program without");
  return obstacles;
}

std::map<std::uint64_t, UnixPeer> unix_sockets() {
  std::map<std::uint64_t, UnixPeer> sockets;
  const UniqueFd kernel(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  struct {
    nlmsghdr header;
    unix_diag_req request;
  } ask{};
  ask.header = {sizeof ask, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 0, 0};
  ask.request.sdiag_family = AF_UNIX;
  ask.request.udiag_states = ~0U;
  ask.request.udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_PEER;
  if (!kernel || ::send(kernel.get(), &ask, sizeof ask, 0) < 0) return sockets;
  alignas(nlmsghdr) static std::array<char, 65536> bytes;
  while (true) {
    auto left = static_cast<unsigned>(
        std::max<ssize_t>(0, ::recv(kernel.get(), bytes.data(), bytes.size(), 0)));
    if (left == 0) return sockets;
    const auto* header = reinterpret_cast<const nlmsghdr*>(bytes.data());
    for (; NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY) return sockets;
      take(*header, sockets);
    }
  }
}

}  // namespace gob::migration
