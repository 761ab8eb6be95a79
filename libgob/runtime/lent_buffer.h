// LentBuffer: memory of a program that it has lent to this gobd, so that bytes of pages travel
// between them without a mapping of the container. The program may write to it at any time: what is
// in it is the program's business alone. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "libgob/base/ids.h"
#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"

namespace gob {

class LentBuffer {
 public:
  static constexpr std::uint64_t kMostBytes = std::uint64_t{16} << 20;

  // Maps `bytes` of `memory`. kInvalidArgument unless it is a memfd that keeps this length for
  // ever: else an access of ours could be a signal.
  static Result<std::shared_ptr<LentBuffer>> map(const UniqueFd& memory, std::uint64_t bytes);
  ~LentBuffer();
  LentBuffer(const LentBuffer&) = delete;
  LentBuffer& operator=(const LentBuffer&) = delete;

  [[nodiscard]] std::uint64_t all_pages() const { return memory_.size() / kPageSize; }
  // `pages` pages from byte `at`; empty unless they lie in it, at a multiple of the page size.
  [[nodiscard]] std::span<std::byte> pages(std::uint64_t at, std::uint64_t pages) const;

 private:
  explicit LentBuffer(std::span<std::byte> memory) : memory_(memory) {}

  std::span<std::byte> memory_;
};

}  // namespace gob
