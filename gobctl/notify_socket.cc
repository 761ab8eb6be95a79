#include "gobctl/notify_socket.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string_view>

#include "libgob/runtime/control_socket.h"

namespace gob::ctl {

Result<NotifySocket> NotifySocket::bind(const std::string& path) {
  const auto address = unix_address(path);
  if (!address) return address.error();
  UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return system_error("creating a socket for readiness");
  const int on = 1;
  if (::setsockopt(socket.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0)
    return system_error("asking for the senders of readiness messages");
  ::unlink(path.c_str());  // of a gobctl that was killed; the caller holds the cluster's lock
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0)
    return system_error("creating the socket " + path);
  return NotifySocket(path, std::move(socket));
}

NotifySocket::~NotifySocket() {
  if (!path_.empty()) ::unlink(path_.c_str());
}

std::optional<NotifySocket::Message> NotifySocket::receive() {
  std::array<char, 4096> text{};
  alignas(cmsghdr) std::array<char, 256> control{};  // credentials; descriptors are not taken
  iovec part{text.data(), text.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  const ssize_t got = ::recvmsg(socket_.get(), &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (got < 0) return std::nullopt;

  Message message;
  for (cmsghdr* item = CMSG_FIRSTHDR(&header); item != nullptr; item = CMSG_NXTHDR(&header, item)) {
    if (item->cmsg_level != SOL_SOCKET) continue;
    if (item->cmsg_type == SCM_CREDENTIALS) {
      ucred sender{};
      std::memcpy(&sender, CMSG_DATA(item), sizeof sender);
      message.pid = sender.pid;
    } else if (item->cmsg_type == SCM_RIGHTS) {
      const std::size_t count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (std::size_t i = 0; i < count; ++i) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(item) + i * sizeof fd, sizeof fd);
        ::close(fd);
      }
    }
  }
  std::string_view rest(text.data(), static_cast<std::size_t>(got));
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    if (line == "READY=1") message.ready = true;
    if (line.starts_with("STATUS=")) message.status = line.substr(7);
  }
  return message;
}

}  // namespace gob::ctl
