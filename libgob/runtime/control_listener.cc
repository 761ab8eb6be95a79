#include "libgob/runtime/control_listener.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <utility>

#include "libgob/runtime/control_socket.h"

namespace gob {
namespace {

std::string lock_path(const std::string& path) { return path + ".lock"; }

bool same_file(int fd, const std::string& path) {
  struct stat by_fd {};
  struct stat by_path {};
  return ::fstat(fd, &by_fd) == 0 && ::lstat(path.c_str(), &by_path) == 0 &&
         by_fd.st_dev == by_path.st_dev && by_fd.st_ino == by_path.st_ino;
}

Result<UniqueFd> take_lock(const std::string& path) {
  const std::string file = lock_path(path);
  // A server that ends removes its lock file, so what we locked may no longer be the file that the
  // next one opens: look again. Each round needs another server that ended in between.
  for (int round = 0; round < 16; ++round) {
    UniqueFd lock(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!lock) {
      return system_error("creating " + file + " beside the control socket (does the directory " +
                          "exist, and may gobd write there?)");
    }
    if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno == EINTR) continue;
      if (errno != EWOULDBLOCK) return system_error("locking " + file);
      return make_error(ErrorCode::kAlreadyExists,
                        "another gobd uses the control socket " + path + " (it holds " + file +
                            "): stop it, or give this one another socket path",
                        EADDRINUSE);
    }
    if (same_file(lock.get(), file)) return lock;
  }
  return make_error(ErrorCode::kUnavailable, file + " kept changing while it was locked", EAGAIN);
}

}  // namespace

Result<ControlListener> ControlListener::listen(const std::string& path, mode_t mode) {
  auto address = unix_address(path);
  if (!address.ok()) return address.error();
  auto lock = take_lock(path);
  if (!lock.ok()) return lock.error();
  ControlListener listener(path, std::move(*lock));
  if (Status bound = listener.bind(mode); !bound.ok()) return bound.error();
  return listener;
}

Status ControlListener::bind(mode_t mode) {
  const auto address = unix_address(path_);
  if (!address.ok()) return address.error();
  if (Status clear = remove_stale(); !clear.ok()) return clear;
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) return system_error("creating the control socket");
  // The file takes the mode of the socket at bind, less the umask: never more than asked.
  if (::fchmod(socket.get(), mode) != 0)
    return system_error("setting the mode of the control socket");
  const auto* raw = reinterpret_cast<const sockaddr*>(&*address);
  if (::bind(socket.get(), raw, sizeof *address) != 0) {
    return system_error("binding the control socket " + path_);
  }
  struct stat file {};
  if (::lstat(path_.c_str(), &file) != 0) return system_error("looking at " + path_);
  device_ = file.st_dev;
  inode_ = file.st_ino;
  socket_ = std::move(socket);
  if (::chmod(path_.c_str(), mode) != 0) return system_error("setting the mode of " + path_);
  if (::listen(socket_.get(), 128) != 0) return system_error("listening on " + path_);
  return {};
}

Status ControlListener::remove_stale() {
  struct stat file {};
  if (::lstat(path_.c_str(), &file) != 0) {
    if (errno == ENOENT) return {};
    return system_error("looking at " + path_);
  }
  if (!S_ISSOCK(file.st_mode)) {
    return make_error(ErrorCode::kAlreadyExists,
                      path_ + " exists and is not a socket: it is not removed; choose another " +
                          "path for the control socket",
                      EEXIST);
  }
  const auto address = unix_address(path_);
  if (!address.ok()) return address.error();
  UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!probe) return system_error("creating a socket");
  const auto* raw = reinterpret_cast<const sockaddr*>(&*address);
  const bool refused = ::connect(probe.get(), raw, sizeof *address) != 0 && errno == ECONNREFUSED;
  if (!refused) {
    return make_error(ErrorCode::kAlreadyExists,
                      "another program listens on the control socket " + path_ +
                          ": stop it, or give this gobd another socket path",
                      EADDRINUSE);
  }
  if (::unlink(path_.c_str()) != 0 && errno != ENOENT) {
    return system_error("removing the control socket " + path_ + " that a dead gobd left behind");
  }
  return {};
}

ControlListener::~ControlListener() {
  if (!lock_) return;
  struct stat file {};
  if (socket_ && ::lstat(path_.c_str(), &file) == 0 && file.st_dev == device_ &&
      file.st_ino == inode_) {
    ::unlink(path_.c_str());
  }
  if (same_file(lock_.get(), lock_path(path_))) ::unlink(lock_path(path_).c_str());
}

}  // namespace gob
