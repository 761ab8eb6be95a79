#include "libgob/container/page_pipe.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>

#include "libgob/base/ids.h"

namespace gob {

Result<PagePipe> PagePipe::create() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
    return system_error("cannot create a pipe to move page frames through");
  UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  // A refusal leaves the pipe as it is, which only makes the chunks smaller.
  static_cast<void>(
      ::fcntl(write_end.get(), F_SETPIPE_SZ, static_cast<int>(kStripePages * kPageSize)));
  const int size_bytes = ::fcntl(write_end.get(), F_GETPIPE_SZ);
  if (size_bytes < static_cast<int>(kPageSize))
    return system_error("cannot learn the size of the pipe that page frames move through");
  const auto pages = static_cast<unsigned>(static_cast<std::size_t>(size_bytes) / kPageSize);
  return PagePipe(std::move(read_end), std::move(write_end), std::min(pages, kStripePages));
}

Result<unsigned> PagePipe::fill(int memfd, std::uint64_t offset_bytes, unsigned count) {
  const std::size_t wanted = std::min(count, capacity_pages_) * kPageSize;
  auto offset = static_cast<loff_t>(offset_bytes);
  ssize_t moved = 0;
  do {
    moved = ::splice(memfd, &offset, write_end_.get(), nullptr, wanted, SPLICE_F_NONBLOCK);
  } while (moved < 0 && errno == EINTR);
  const std::string what = "cannot take " + std::to_string(count) + " page frames at offset " +
                           std::to_string(offset_bytes) + " with splice";
  if (moved < 0) return system_error(what);
  if (moved == 0 || static_cast<std::size_t>(moved) % kPageSize != 0) {
    discard();
    return make_error(ErrorCode::kSystem,
                      what + ": the kernel moved " + std::to_string(moved) + " bytes", EIO);
  }
  return static_cast<unsigned>(static_cast<std::size_t>(moved) / kPageSize);
}

Status PagePipe::drain(unsigned count, std::byte* out) {
  std::size_t left = count * kPageSize;
  while (left > 0) {
    const ssize_t got = ::read(read_end_.get(), out, left);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      if (got == 0) errno = EIO;  // cannot be: the write end is ours and open
      Error error = system_error("cannot read page frames that were taken: their bytes are lost");
      error.code = ErrorCode::kLost;
      discard();
      return error;
    }
    out += got;
    left -= static_cast<std::size_t>(got);
  }
  return {};
}

void PagePipe::discard() {
  std::array<std::byte, kPageSize> sink;
  while (::read(read_end_.get(), sink.data(), sink.size()) > 0) {
  }
}

}  // namespace gob
