// MountPoint: a directory that something is mounted on for a while. Any thread.
#pragma once

#include <string>
#include <utility>

namespace gob::bench {

// Unmounts a FUSE file system at the end of the scope, also one whose server is gone.
class MountPoint {
 public:
  explicit MountPoint(std::string path) : path_(std::move(path)) {}
  MountPoint(MountPoint&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  MountPoint& operator=(MountPoint&&) = delete;
  ~MountPoint();
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace gob::bench
