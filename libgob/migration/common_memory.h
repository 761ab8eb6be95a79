// CommonMemory: memory of the kernel's own that processes have in common, as System V segments and
// what mmap(MAP_SHARED | MAP_ANONYMOUS) and memfd_create(2) make, of which some are to move and
// others stay. It becomes a container (docs/decisions/0044). Functions over /proc; any thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/migration/visit.h"

namespace gob::migration {

// Names of the containers that memory becomes begin so.
inline constexpr const char* kCommonName = "migrate-memory.";
// In a process that is about to move, a memory file lies in the place of such a container: CRIU
// takes it along, and its name, /memfd:gob-common:CONTAINER, says what belongs there.
inline constexpr const char* kPlaceName = "gob-common:";

struct CommonSegment {
  std::string name;         // as messages call it
  std::uint64_t inode = 0;  // by the kernel's numbers; of a System V segment, its identifier
  bool system_v = false;
  dev_t device = 0;         // of the inode; 0: System V's
  std::uint64_t bytes = 0;  // whole pages
  struct User {
    pid_t pid = 0;
    std::vector<SharedArea> areas;
  };
  std::vector<User> moving, staying;
};

struct Common {
  std::vector<CommonSegment> segments;
  std::vector<std::string> obstacles;  // why what is common cannot become containers
  // Of the processes that move, areas that are containers since an earlier move.
  std::uint64_t joined = 0;
};

// What `moving` processes have in common with others, and all their System V segments. Others end
// or begin to share meanwhile, unless they stand still.
Common common_memory(const std::vector<pid_t>& moving);
// The memory itself, for reading, by one of its users.
Result<UniqueFd> open_common(const CommonSegment& segment);

// Areas of a process in which a container lies, or shall lie, by the container's name.
using NamedArea = std::pair<std::string, SharedArea>;
std::vector<NamedArea> container_areas(pid_t pid);  // as common memory
std::vector<NamedArea> places_of(pid_t pid);
// All processes of this machine with a container mapped whose memory file is one of these, which
// are one gobd's; other than keepers (kKeeperName), which look into them.
std::vector<pid_t> users_of(const std::set<std::uint64_t>& inodes);
// As ps(1) shows it, of every keeper of such memory.
inline constexpr const char* kKeeperName = "gobmigrate-kpr";
// Some keeper that is connected to this socket of gobd has not ended.
bool has_keeper(const std::string& socket);

}  // namespace gob::migration
