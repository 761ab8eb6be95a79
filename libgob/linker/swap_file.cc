#include "libgob/linker/swap_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "libgob/base/ids.h"

namespace gob {
namespace {

constexpr std::uint64_t kExtentBytes = SlotAllocator::kExtentSlots * kPageSize;

// A named file whose name is taken away at once, where O_TMPFILE is not to be had.
UniqueFd create_and_unlink(const std::string& directory, int flags) {
  std::string name = directory + "/gob-swap-XXXXXX";
  UniqueFd file(::mkostemp(name.data(), flags));
  if (file) ::unlink(name.c_str());
  return file;
}

UniqueFd create_in(const std::string& directory, int flags) {
  UniqueFd file(::open(directory.c_str(), O_TMPFILE | O_RDWR | flags, 0600));
  if (!file && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL))
    file = create_and_unlink(directory, flags);
  return file;
}

}  // namespace

Result<SwapFile> SwapFile::create(const std::string& directory) {
  UniqueFd file = create_in(directory, O_CLOEXEC | O_DIRECT);
  if (!file && errno == EINVAL) file = create_in(directory, O_CLOEXEC);
  if (!file)
    return system_error("cannot create a swap file in " + directory +
                        " (swap_dir: a directory that gobd may write to)");
  return SwapFile(std::move(file), directory);
}

Status SwapFile::reserve(SlotAllocator::Slot last) {
  const std::uint64_t needed = (last / SlotAllocator::kExtentSlots + 1) * kExtentBytes;
  if (needed <= reserved_bytes_) return {};
  int failure = 0;
  do {
    failure = ::fallocate(file_.get(), 0, static_cast<off_t>(reserved_bytes_),
                          static_cast<off_t>(needed - reserved_bytes_));
  } while (failure != 0 && errno == EINTR);
  // A file system without fallocate tells at the write itself.
  if (failure != 0 && errno != EOPNOTSUPP) {
    Error error = system_error("cannot enlarge the swap file in " + directory_ + " to " +
                               std::to_string(needed >> 20) + " MiB");
    if (error.errno_value == ENOSPC || error.errno_value == EDQUOT || error.errno_value == EFBIG)
      error.code = ErrorCode::kNoSpace;
    return error;
  }
  reserved_bytes_ = needed;
  return {};
}

// Calls `call(offset, first page of the buffer, bytes)` for each run of neighbouring slots, again
// for what it left over.
template <class F>
Status SwapFile::transfer(const std::vector<SlotAllocator::Slot>& slots, const char* verb,
                          F&& call) {
  for (std::size_t first = 0; first < slots.size();) {
    std::size_t count = 1;
    while (first + count < slots.size() && slots[first + count] == slots[first] + count) ++count;
    const std::size_t bytes = count * kPageSize;
    for (std::size_t done = 0; done < bytes;) {
      const auto offset = static_cast<off_t>(slots[first] * kPageSize + done);
      const ssize_t moved = call(offset, first * kPageSize + done, bytes - done);
      if (moved < 0 && errno == EINTR) continue;
      if (moved <= 0) {
        if (moved == 0) errno = EIO;
        Error error = system_error(std::string("cannot ") + verb + " " + std::to_string(count) +
                                   " pages at byte " + std::to_string(offset) +
                                   " of the swap file in " + directory_);
        if (error.errno_value == ENOSPC || error.errno_value == EDQUOT)
          error.code = ErrorCode::kNoSpace;
        return error;
      }
      done += static_cast<std::size_t>(moved);
    }
    first += count;
  }
  return {};
}

Status SwapFile::write(const std::vector<SlotAllocator::Slot>& slots, const std::byte* bytes) {
  if (slots.empty()) return {};
  if (Status room = reserve(*std::max_element(slots.begin(), slots.end())); !room) return room;
  return transfer(slots, "write", [&](off_t offset, std::size_t at, std::size_t size) {
    return ::pwrite(file_.get(), bytes + at, size, offset);
  });
}

Status SwapFile::read(const std::vector<SlotAllocator::Slot>& slots, std::byte* bytes) {
  return transfer(slots, "read", [&](off_t offset, std::size_t at, std::size_t size) {
    return ::pread(file_.get(), bytes + at, size, offset);
  });
}

}  // namespace gob
