// Directories of gobbench that are removed with everything in it at its end, also when it is
// interrupted or killed. Main thread.
#pragma once

#include <string>
#include <utility>

#include "libgob/base/result.h"

namespace gob::bench {

class TemporaryDirectory {
 public:
  // With a name of its own in `base`; empty: in $TMPDIR, or /tmp.
  static Result<TemporaryDirectory> create(std::string base = {});
  TemporaryDirectory(TemporaryDirectory&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  TemporaryDirectory& operator=(TemporaryDirectory&&) = delete;
  ~TemporaryDirectory();
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  explicit TemporaryDirectory(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

}  // namespace gob::bench
