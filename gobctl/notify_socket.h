// The receiving end of sd_notify(3): processes say here that they are ready. Used by one thread.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"

namespace gob::ctl {

class NotifySocket {
 public:
  // A socket file, as abstract names end at the border of a network namespace. Removed at the end.
  static Result<NotifySocket> bind(const std::string& path);
  NotifySocket(NotifySocket&& other) noexcept
      : path_(std::exchange(other.path_, "")), socket_(std::move(other.socket_)) {}
  NotifySocket& operator=(NotifySocket&&) = delete;
  ~NotifySocket();

  [[nodiscard]] int fd() const { return socket_.get(); }
  struct Message {
    pid_t pid = 0;  // of the sender, by the kernel's word
    bool ready = false;
    std::string status;  // what it is doing, in its words; may be empty
  };
  // Does not wait; nothing when no message is there.
  std::optional<Message> receive();

 private:
  NotifySocket(std::string path, UniqueFd socket)
      : path_(std::move(path)), socket_(std::move(socket)) {}
  std::string path_;
  UniqueFd socket_;
};

}  // namespace gob::ctl
