// The socket file of a control server: made with the mode asked, replaced when a dead server left
// it behind, refused when a live one owns it, removed at the end. Owned by the server's thread.
#pragma once

#include <sys/types.h>

#include <string>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"

namespace gob {

class ControlListener {
 public:
  // Listens on `path` with permission bits `mode`. Beside it `path`.lock tells servers that start
  // at the same time apart. kAlreadyExists if a live server owns the path or the file is no socket.
  static Result<ControlListener> listen(const std::string& path, mode_t mode);

  ControlListener(ControlListener&&) noexcept = default;
  ControlListener& operator=(ControlListener&&) = delete;
  ~ControlListener();  // removes both files, if they are still ours

  [[nodiscard]] int fd() const { return socket_.get(); }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  ControlListener(std::string path, UniqueFd lock)
      : path_(std::move(path)), lock_(std::move(lock)) {}
  Status bind(mode_t mode);
  Status remove_stale();

  std::string path_;
  UniqueFd lock_;
  UniqueFd socket_;
  dev_t device_ = 0;  // of the socket file
  ino_t inode_ = 0;
};

}  // namespace gob
