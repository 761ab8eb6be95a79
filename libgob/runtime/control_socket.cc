#include "libgob/runtime/control_socket.h"

#include <sys/socket.h>

#include <array>
#include <cstring>
#include <iterator>

#include "libgob/runtime/control_wire.h"

namespace gob {

Result<sockaddr_un> unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.find('\0') != std::string::npos) {
    return make_error(ErrorCode::kInvalidArgument, "the path of the control socket is empty",
                      EINVAL);
  }
  if (path.size() >= sizeof address.sun_path) {
    return make_error(ErrorCode::kInvalidArgument,
                      "the path of the control socket, " + path + ", has " +
                          std::to_string(path.size()) + " bytes; a Unix socket takes at most " +
                          std::to_string(sizeof address.sun_path - 1) + ": choose a shorter one",
                      ENAMETOOLONG);
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

Result<std::size_t> send_some(int socket, std::string_view bytes, std::span<const int> fds,
                              bool wait) {
  iovec part{const_cast<char*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxControlFds * sizeof(int))> control{};
  if (!fds.empty()) {
    if (fds.size() > kMaxControlFds) {
      return make_error(ErrorCode::kInvalidArgument, "too many descriptors for one message",
                        EINVAL);
    }
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  }
  while (true) {
    const ssize_t sent = ::sendmsg(socket, &message, MSG_NOSIGNAL | (wait ? 0 : MSG_DONTWAIT));
    if (sent >= 0) return static_cast<std::size_t>(sent);
    if (errno == EINTR) continue;
    if (errno == EAGAIN) return std::size_t{0};
    return system_error("sending on the control socket");
  }
}

Result<Received> receive_some(int socket, std::span<char> buffer, std::vector<UniqueFd>& fds) {
  iovec part{buffer.data(), buffer.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxControlFds * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t got = -1;
  do {
    got = ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) {
    if (errno == EAGAIN) return Received{Received::What::kNothingNow, 0};
    if (errno == ECONNRESET) return Received{Received::What::kEnd, 0};
    return system_error("reading the control socket");
  }
  const std::size_t before = fds.size();
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
      fds.emplace_back(fd);
    }
  }
  if ((message.msg_flags & MSG_CTRUNC) != 0) {
    if (fds.size() - before >= kMaxControlFds) {
      return make_error(ErrorCode::kProtocol, "more than " + std::to_string(kMaxControlFds) +
                                                  " descriptors came with a message");
    }
    // There was no room. Those that got some are of no use without the others.
    fds.resize(before);
    fds.emplace_back();
  }
  if (got == 0) return Received{Received::What::kEnd, 0};
  return Received{Received::What::kBytes, static_cast<std::size_t>(got)};
}

Result<std::vector<UniqueFd>> take_fds(std::vector<UniqueFd>& queue, std::size_t count) {
  if (count > 0 && !queue.empty() && !queue.front()) {
    queue.erase(queue.begin());
    return make_error(ErrorCode::kNoSpace, "no file descriptor was left", EMFILE);
  }
  if (queue.size() < count) {
    return make_error(ErrorCode::kProtocol, "a message announces " + std::to_string(count) +
                                                " descriptors and " + std::to_string(queue.size()) +
                                                " came");
  }
  const auto end = queue.begin() + static_cast<std::ptrdiff_t>(count);
  std::vector<UniqueFd> taken(std::make_move_iterator(queue.begin()), std::make_move_iterator(end));
  queue.erase(queue.begin(), end);
  return taken;
}

}  // namespace gob
