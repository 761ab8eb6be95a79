// One message of a fixed size, perhaps with a descriptor, from a socket that keeps messages apart.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "libgob/base/unique_fd.h"

namespace gob::migration {

// `flags`: of recvmsg(2). False: the other end is closed, nothing is there, or it is no such word.
template <class Word>
bool hear_word(int socket, Word& word, UniqueFd& fd, int flags = 0) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  iovec part{&word, sizeof word};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (TEMP_FAILURE_RETRY(::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | flags)) !=
      static_cast<ssize_t>(sizeof word))
    return false;
  if (const cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr) {
    int number = -1;
    std::memcpy(&number, CMSG_DATA(header), sizeof number);
    fd.reset(number);
  }
  return true;
}

}  // namespace gob::migration
