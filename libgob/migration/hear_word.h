// One message of a fixed size, perhaps with a descriptor, by a socket that keeps messages apart.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "libgob/base/unique_fd.h"

namespace gob::migration {

enum class Heard : std::uint8_t {
  kWord,
  kNothing,  // the other end is closed, nothing is there, or it is no such word
  kNoRoom,   // a word whose descriptor this process has no room for: lost, unless with MSG_PEEK
};

// `flags`: of recvmsg(2).
template <class Word>
Heard hear_word(int socket, Word& word, UniqueFd& fd, int flags = 0) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  iovec part{&word, sizeof word};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  fd.reset();
  if (TEMP_FAILURE_RETRY(::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | flags)) !=
      static_cast<ssize_t>(sizeof word))
    return Heard::kNothing;
  if (const cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr) {
    int number = -1;
    std::memcpy(&number, CMSG_DATA(header), sizeof number);
    fd.reset(number);
  }
  return (message.msg_flags & MSG_CTRUNC) == 0 ? Heard::kWord : Heard::kNoRoom;
}

// `fd`: a descriptor that goes along, or -1. False, with errno set: nobody hears it.
template <class Word>
bool send_word(int socket, const Word& word, int fd) {
  iovec part{const_cast<Word*>(&word), sizeof word};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {};
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  return ::sendmsg(socket, &message, MSG_NOSIGNAL) == static_cast<ssize_t>(sizeof word);
}

// Takes out the word that was heard with MSG_PEEK, and needs no room for its descriptor.
inline void drop_word(int socket) {
  char none = 0;
  static_cast<void>(TEMP_FAILURE_RETRY(::recv(socket, &none, sizeof none, MSG_DONTWAIT)));
}

}  // namespace gob::migration
