#include "libgob/migration/common_mapper_help.h"

#include <spdlog/spdlog.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <syslog.h>

#include <cerrno>

#include "libgob/base/ids.h"
#include "libgob/linker/uffd_abi.h"

namespace gob::migration {

bool has_memory(int uffd, std::uint64_t address) {
  static void* const nothing =
      ::mmap(nullptr, kPageSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  uffdio_copy call{};
  call.dst = address;
  call.src = reinterpret_cast<std::uintptr_t>(nothing);
  call.len = kPageSize;
  return ::ioctl(uffd, UFFDIO_COPY, &call) == 0 || errno != ESRCH;
}

void tell(const std::string& what) {
  spdlog::error("{}", what);
  ::syslog(LOG_DAEMON | LOG_ERR, "gobmigrate: %s", what.c_str());
}

}  // namespace gob::migration
