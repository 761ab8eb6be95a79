#include "libgob/linker/backing_file.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string>

namespace gob {
namespace {

Error failed(const char* what, std::uint64_t offset, std::uint64_t length) {
  const int error = errno;
  const ErrorCode code =
      error == ENOSPC || error == EDQUOT ? ErrorCode::kNoSpace : ErrorCode::kSystem;
  return make_error(code,
                    std::string("cannot ") + what + " " + std::to_string(length) +
                        " bytes at byte " + std::to_string(offset) +
                        " of the file behind a container",
                    error);
}

}  // namespace

void pass_over(std::size_t bytes, iovec*& parts, int& part_count) {
  while (bytes > 0) {
    const std::size_t now = std::min(bytes, parts->iov_len);
    parts->iov_base = static_cast<std::byte*>(parts->iov_base) + now;
    parts->iov_len -= now;
    bytes -= now;
    if (parts->iov_len != 0) return;
    ++parts;
    --part_count;
  }
}

BackingFile::BackingFile(UniqueFd file, std::uint64_t size_bytes, const BackingFile* before)
    : file_(std::move(file)), end_(before != nullptr ? before->end_ : std::make_shared<End>()) {
  set_size(size_bytes);
}

std::uint64_t BackingFile::resize(const std::function<std::uint64_t()>& change) {
  const std::lock_guard guard(end_->writing);
  const std::uint64_t size_bytes = change();
  set_size(size_bytes);
  return size_bytes;
}

Status BackingFile::read(PageIndex first, unsigned count, iovec* parts, int part_count) const {
  std::uint64_t offset = first.value() * kPageSize;
  std::uint64_t left = std::uint64_t{count} * kPageSize;
  while (part_count > 0) {
    const ssize_t got = ::preadv(file_.get(), parts, part_count, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failed("read", offset, left);
    if (got == 0) break;
    offset += static_cast<std::uint64_t>(got);
    left -= static_cast<std::uint64_t>(got);
    pass_over(static_cast<std::size_t>(got), parts, part_count);
  }
  for (; part_count > 0; ++parts, --part_count) std::memset(parts->iov_base, 0, parts->iov_len);
  return {};
}

Status BackingFile::write(PageIndex first, unsigned count, const std::byte* bytes) const {
  const std::uint64_t begin = first.value() * kPageSize;
  for (std::uint64_t offset = begin;;) {
    // It may be cut between two calls, but not during one, which would make it longer again.
    const std::lock_guard guard(end_->writing);
    const std::uint64_t end = std::min(begin + std::uint64_t{count} * kPageSize, size());
    if (offset >= end) return {};
    const ssize_t put =
        ::pwrite(file_.get(), bytes + (offset - begin), end - offset, static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return failed("write", offset, end - offset);
    offset += static_cast<std::uint64_t>(put);
  }
}

}  // namespace gob
