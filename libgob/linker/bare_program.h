// A process that reads pages of a shared mapping, one after the other, with no protocol behind it:
// what baselines are measured with. Any thread; forks.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/container/frame_pool.h"
#include "libgob/linker/mapping.h"

namespace gob {

class BareProgram {
 public:
  // Reads one page, in the child of a fork: async-signal-safe. False: its bytes are wrong.
  using ReadPage = bool (*)(const std::byte* page, std::uint64_t index);

  // `what` begins the text of errors. The process starts reading at once, and stands still at the
  // first of its `pages` pages, none of which is there. Before each page it sweeps over `swept`
  // (cache_sweep.h), in its own copy, which is not timed.
  static Result<BareProgram> start(const std::string& what, std::uint64_t pages, ReadPage read,
                                   std::span<double> swept = {});

  BareProgram(BareProgram&&) noexcept;
  BareProgram& operator=(BareProgram&&) = delete;
  ~BareProgram();  // ends the process

  // Of all its pages, page i of the pool.
  [[nodiscard]] Mapping& mapping() const { return *mapping_; }

  // Waits for the process to end by itself: the nanoseconds each page took to read, in order.
  // kTimedOut if it is still at it then.
  Result<std::vector<std::uint64_t>> finish(std::chrono::milliseconds timeout);

 private:
  // A shared mapping that is gone at the end of the scope.
  class SharedMemory;

  BareProgram(std::string what, std::uint64_t pages);
  [[noreturn]] void run(int socket, ReadPage read, std::span<double> swept) const;

  std::string what_;
  std::uint64_t pages_;
  std::unique_ptr<FramePool> pool_;
  std::unique_ptr<SharedMemory> memory_;
  std::unique_ptr<SharedMemory> took_ns_;
  std::shared_ptr<Mapping> mapping_;
  UniqueFd pidfd_;
  pid_t pid_ = -1;
};

}  // namespace gob
