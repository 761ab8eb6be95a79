#include "libgob/client/move_door.h"

#include <sys/socket.h>

#include <array>
#include <cstring>

namespace gob::client {
namespace {

constexpr std::size_t kHead = 1 + sizeof(std::uint64_t);

}  // namespace

Status send_letter(int socket, const MoveLetter& letter, bool wait) {
  std::array<char, kMaxMoveBytes> bytes;
  const std::size_t text = std::min(letter.text.size(), bytes.size() - kHead);
  bytes[0] = letter.what;
  std::memcpy(bytes.data() + 1, &letter.number, sizeof letter.number);
  std::memcpy(bytes.data() + kHead, letter.text.data(), text);
  iovec part{bytes.data(), kHead + text};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (const int fd = letter.fd.get(); fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  if (::sendmsg(socket, &message, MSG_NOSIGNAL | (wait ? 0 : MSG_DONTWAIT)) < 0)
    return system_error("speaking to a program's connection to gobd");
  return {};
}

std::optional<MoveLetter> receive_letter(int socket) {
  std::array<char, kMaxMoveBytes> bytes;
  iovec part{bytes.data(), bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t got = ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0) return std::nullopt;
  MoveLetter letter;
  if (const cmsghdr* header = CMSG_FIRSTHDR(&message);
      header != nullptr && header->cmsg_type == SCM_RIGHTS) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
    letter.fd.reset(fd);
  }
  if (static_cast<std::size_t>(got) < kHead) return std::nullopt;
  letter.what = bytes[0];
  std::memcpy(&letter.number, bytes.data() + 1, sizeof letter.number);
  letter.text.assign(bytes.data() + kHead, static_cast<std::size_t>(got) - kHead);
  return letter;
}

}  // namespace gob::client
