#include <fcntl.h>
#include <sys/ipc.h>
#include <sys/shm.h>

#include <array>
#include <cstdio>
#include <string>

#include "libgob/base/ids.h"
#include "libgob/linker/linkable.h"

namespace gob {

Result<Linkable> open_segment(key_t key) {
  std::array<char, 16> name{};
  std::snprintf(name.data(), name.size(), "0x%08x", static_cast<unsigned>(key));
  const std::string what = std::string("cannot open System V segment ") + name.data();
  if (key == IPC_PRIVATE)
    return make_error(ErrorCode::kInvalidArgument, what + ": private segments have no key", EINVAL);
  Linkable segment;
  segment.key = key;
  const int id = ::shmget(key, 0, 0);
  if (id < 0 && errno == ENOENT)
    return make_error(ErrorCode::kNotFound,
                      what + ": this node has none with this key (ipcs -m lists them)", ENOENT);
  shmid_ds status{};
  if (id < 0 || ::shmctl(id, IPC_STAT, &status) != 0) return system_error(what);
  segment.identity = static_cast<std::uint32_t>(id);
  segment.size_bytes = status.shm_segsz;
  segment.mode = status.shm_perm.mode & 0777u;
  segment.uid = status.shm_perm.uid;
  segment.gid = status.shm_perm.gid;
  // There is no call that opens it; the kernel shows what is mapped as files.
  void* const address = ::shmat(id, nullptr, 0);
  if (address == reinterpret_cast<void*>(-1)) return system_error(what + ": shmat failed");
  const auto begin = reinterpret_cast<std::uintptr_t>(address);
  const std::uintptr_t end = begin + (segment.size_bytes + kPageSize - 1) / kPageSize * kPageSize;
  std::array<char, 80> path{};
  std::snprintf(path.data(), path.size(), "/proc/self/map_files/%zx-%zx", begin, end);
  segment.file.reset(::open(path.data(), O_RDWR | O_CLOEXEC));
  Error failed = system_error(what + ": cannot open " + path.data());
  ::shmdt(address);
  if (!segment.file) return failed;
  return segment;
}

}  // namespace gob
