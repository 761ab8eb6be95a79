#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "libgob/base/ids.h"
#include "libgob/base/page_table.h"
#include "libgob/container/container_record.h"
#include "libgob/linker/linkable.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace gob {
namespace {

constexpr std::uint64_t kPagesAtOnce = 16384;  // mapped by the process that writes to all of them
constexpr int kSettled = 3;

// Segments have identities below this.
constexpr std::uint32_t kFileIdentity = 0x80000000u;

// Another thread of the parent may hold any lock: system calls only.
[[noreturn]] void write_to_all(int file, std::uint64_t pages) {
  if (file != kSettled && ::dup2(file, kSettled) < 0) ::_exit(errno);
  ::close_range(kSettled + 1, ~0u, 0);
  for (std::uint64_t first = 0; first < pages; first += kPagesAtOnce) {
    const std::size_t bytes = std::min(kPagesAtOnce, pages - first) * kPageSize;
    void* const at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, kSettled,
                            static_cast<off_t>(first * kPageSize));
    if (at == MAP_FAILED) ::_exit(errno);
    while (::madvise(at, bytes, MADV_POPULATE_WRITE) != 0)
      if (errno != EAGAIN && errno != EINTR) ::_exit(errno);
    ::munmap(at, bytes);
  }
  ::_exit(0);
}

}  // namespace

std::string Linkable::name() const {
  if (!is_segment()) return "file " + quoted(path);
  char text[32];
  std::snprintf(text, sizeof text, "segment 0x%08x", static_cast<unsigned>(key));
  return text;
}

Result<Linkable> open_plain_file(const std::string& full_path, const std::optional<NewFile>& make) {
  const std::string what = "cannot open file " + quoted(full_path);
  Linkable found;
  found.path = full_path;
  found.file.reset(::open(full_path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!found.file && errno == ENOENT && make) {
    found.file.reset(::open(full_path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!found.file) return system_error("cannot make file " + quoted(full_path));
    if (::ftruncate(found.file.get(), static_cast<off_t>(make->size_bytes)) != 0 ||
        ::fchown(found.file.get(), make->uid, make->gid) != 0 ||
        ::fchmod(found.file.get(), make->mode) != 0) {
      Error failed = system_error("cannot make file " + quoted(full_path));
      ::unlink(full_path.c_str());
      return failed;
    }
  }
  if (!found.file && errno == ENOENT)
    return make_error(ErrorCode::kNotFound, what + ": there is none on this node", ENOENT);
  if (!found.file && errno == ELOOP)
    return make_error(ErrorCode::kInvalidArgument,
                      what + ": it is a symbolic link; name the file that it leads to", ELOOP);
  struct stat status {};
  if (!found.file || ::fstat(found.file.get(), &status) != 0) return system_error(what);
  if (!S_ISREG(status.st_mode))
    return make_error(ErrorCode::kInvalidArgument, what + ": it is no regular file", EINVAL);
  found.size_bytes = static_cast<std::uint64_t>(status.st_size);
  found.mode = status.st_mode & 0777u;
  found.uid = status.st_uid;
  found.gid = status.st_gid;
  found.identity =
      kFileIdentity | static_cast<std::uint32_t>(mix64(mix64(status.st_dev) ^ status.st_ino) >> 33);
  return found;
}

Status settle_file(int file, std::uint64_t pages) {
  const pid_t child = ::fork();
  if (child == 0) write_to_all(file, pages);
  if (child < 0) return system_error("cannot start a process that writes to a linked file");
  int status = 0;
  while (::waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return system_error("cannot wait for what writes to a linked file");
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    errno = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
    return system_error(
        "a page of the file cannot be written to its disk (is that full?), so the file stays attached");
  }
  if (::fsync(file) != 0)
    return system_error("the file cannot be synced to its disk, so it stays attached");
  return {};
}

}  // namespace gob
