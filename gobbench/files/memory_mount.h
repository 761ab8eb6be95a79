// MemoryMount: a FUSE file system whose one file lies in this program's memory. It does nothing but
// answer, so reading through it costs what FUSE costs alone: no mount in user space can be faster.
// Or it asks a thread at another place for what it answers, over a plain socket: what FUSE and TCP
// cost together, without coherence and with nothing kept.
// Main thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "gobbench/tcp_pair.h"
#include "libgob/base/result.h"

namespace gob::bench {

class MemoryMount {
 public:
  // Mounts on `folder`, which is empty, a file of `bytes` bytes of the pattern (page_pattern.h),
  // with what gobd's mount asks of the kernel: caching, read-ahead, size and number of requests.
  static Result<MemoryMount> start(const std::string& folder, std::uint64_t bytes);
  // The same with the bytes at the server's place.
  static Result<MemoryMount> start_remote(const std::string& folder, std::uint64_t bytes,
                                          const TcpPlaces& places);
  MemoryMount(MemoryMount&&) noexcept;
  MemoryMount& operator=(MemoryMount&&) = delete;
  ~MemoryMount();
  [[nodiscard]] const std::string& path() const { return path_; }  // of the file

 private:
  class Server;
  MemoryMount(std::unique_ptr<Server> server, std::string path);
  std::unique_ptr<Server> server_;
  std::string path_;
};

}  // namespace gob::bench
