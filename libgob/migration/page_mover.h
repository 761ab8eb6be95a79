// PageMover: moves pages in and out of containers without mapping them (control.proto, TakePages,
// PutPages, CopyPages). What travels lies in a buffer that this process shares with gobd: it is
// the same memory again and again, and costs no fault.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "libgob/base/ids.h"
#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/runtime/control_client.h"

namespace gob::migration {

class PageMover {
 public:
  static constexpr std::uint64_t kLanePages = 256;

  // A connection of its own to the gobd at `socket`. Lanes: parts of the buffer, of kLanePages
  // pages each; a lane is used by one thread at a time.
  static Result<std::unique_ptr<PageMover>> open(const std::string& socket, std::size_t lanes);
  ~PageMover();
  PageMover(const PageMover&) = delete;
  PageMover& operator=(const PageMover&) = delete;

  [[nodiscard]] std::byte* lane(std::size_t index) const {
    return memory_ + index * kLanePages * kPageSize;
  }

  // Any thread. The container's number, for those below.
  enum class Use : std::uint8_t { kMove, kCopy };
  Result<std::uint32_t> find(const std::string& name, Use use) const;
  // This node becomes the only one with `pages` pages from `first`, and their bytes are in the lane
  // afterwards. `ahead`: so many behind them will be wanted next.
  Status take(std::uint32_t container, std::uint64_t first, std::uint64_t pages, std::size_t lane,
              std::uint64_t ahead) const;
  // Copies of the pages are in the lane afterwards, from its page `at` on.
  Status copy(std::uint32_t container, std::uint64_t first, std::uint64_t pages, std::size_t lane,
              std::uint64_t at) const;
  // The pages become what is in the lane.
  Status put(std::uint32_t container, std::uint64_t first, std::uint64_t pages,
             std::size_t lane) const;
  // Makes a container of the memory of processes of this node, or says which these are
  // (control.proto, ServeProcesses).
  Status serve(const std::string& name, std::span<const int> processes = {}) const;

 private:
  PageMover(std::unique_ptr<ControlClient> gobd, std::byte* memory, std::size_t bytes)
      : gobd_(std::move(gobd)), memory_(memory), bytes_(bytes) {}

  std::unique_ptr<ControlClient> gobd_;
  std::byte* memory_;
  std::size_t bytes_;
};

}  // namespace gob::migration
