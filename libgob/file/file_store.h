// FileStore: what the home's file service needs of the rest of the daemon: containers for the bytes
// of files, and a word to other nodes. Any thread; callbacks on any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "libgob/base/ids.h"
#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/file/file.pb.h"
#include "libgob/linker/file_data.h"

namespace gob::file {

class FileStore {
 public:
  virtual ~FileStore() = default;

  // Makes a container whose pages come from an open file of this node's disk. When `done` says so
  // every node knows it. `name` is unlike that of every other container; `source` is what
  // FileServer::reopen() finds the file by, should this node come back after a crash.
  virtual void provide(const std::string& name, const std::string& source, UniqueFd file,
                       std::uint64_t size_bytes, std::function<void(Result<ContainerId>)> done) = 0;
  // Removes it; the file stays.
  virtual void withdraw(ContainerId container, const std::string& name) = 0;
  // To a node, this one too, never on the caller's stack.
  virtual void send(NodeId to, peer::FileBody body) = 0;
  virtual FileData& data() = 0;
};

}  // namespace gob::file
