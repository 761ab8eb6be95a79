#include "libgob/runtime/lent_buffer.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <string>

namespace gob {

Result<std::shared_ptr<LentBuffer>> LentBuffer::map(const UniqueFd& memory, std::uint64_t bytes) {
  if (bytes == 0 || bytes > kMostBytes || bytes % kPageSize != 0)
    return make_error(ErrorCode::kInvalidArgument,
                      "cannot use a buffer of " + std::to_string(bytes) +
                          " bytes: it has whole pages, and at most " + std::to_string(kMostBytes) +
                          " bytes",
                      EINVAL);
  struct stat status {};
  struct statfs system {};
  const int seals = ::fcntl(memory.get(), F_GET_SEALS);
  // Of huge pages there may be none when one is needed.
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0 || ::fstat(memory.get(), &status) != 0 ||
      static_cast<std::uint64_t>(status.st_size) < bytes ||
      ::fstatfs(memory.get(), &system) != 0 || system.f_type != TMPFS_MAGIC)
    return make_error(ErrorCode::kInvalidArgument,
                      "cannot use the buffer: it is no memfd of this length that was sealed with "
                      "F_SEAL_SHRINK",
                      EINVAL);
  void* const at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
  if (at == MAP_FAILED) return system_error("cannot map the program's buffer");
  return std::shared_ptr<LentBuffer>(new LentBuffer({static_cast<std::byte*>(at), bytes}));
}

LentBuffer::~LentBuffer() { ::munmap(memory_.data(), memory_.size()); }

std::span<std::byte> LentBuffer::pages(std::uint64_t at, std::uint64_t pages) const {
  if (at % kPageSize != 0 || at > memory_.size() || pages > (memory_.size() - at) / kPageSize)
    return {};
  return memory_.subspan(at, pages * kPageSize);
}

}  // namespace gob
