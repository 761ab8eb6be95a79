// MappedFile: for tests of files that programs map for writing.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstddef>
#include <string>

#include "tests/system/file_nodes.h"

namespace gob {

// A file of the shared folder, open and mapped by a program at one node.
class MappedFile {
 public:
  MappedFile(const Nodes& nodes, unsigned node, const std::string& name, std::size_t bytes)
      : connection_(nodes.socket_of(node)),
        fd_(::open((seen_at(nodes, node) + name).c_str(), O_RDWR | O_CREAT, 0644)),
        mapping_(connection_.open_file(fd_).map(0, bytes)) {}
  ~MappedFile() { ::close(fd_); }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] char* at(std::size_t offset) const {
    return static_cast<char*>(mapping_.data()) + offset;
  }

 private:
  gobelins::Connection connection_;
  const int fd_;
  gobelins::Mapping mapping_;
};

}  // namespace gob
