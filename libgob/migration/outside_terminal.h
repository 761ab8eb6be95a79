// The terminal at which processes that move were started. It stays, and they go on using it through
// a relay. Functions over /proc; one thread.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/migration/migration.pb.h"

namespace gob::migration {

class OutsideTerminal {
 public:
  // Descriptor `fd` of process `pid`, which moves, is the character device `path`. False: that is
  // no terminal, or its master side.
  bool add(pid_t pid, const std::string& fd, const std::string& path, const struct stat& info);
  // The one that they have. `known`: of a migrant, the one that is relayed already, if any; null:
  // it never moved. What a relay could not do is said in `obstacles`.
  [[nodiscard]] std::optional<Terminal> terminal(const std::vector<pid_t>& moving,
                                                 const std::optional<Terminal>* known,
                                                 std::vector<std::string>& obstacles) const;

 private:
  struct Use {
    pid_t pid = 0;
    std::string fd, path;
  };
  using Device = std::pair<dev_t, dev_t>;  // of the terminal, of the file system of its file
  std::map<Device, Use> uses_;
};

// A descriptor of one's own for it, at the node where it is; never the caller's terminal, and no
// read or write of it waits. The process must not have closed it.
Result<UniqueFd> open_terminal(const Terminal& terminal);
// What --external of CRIU wants to know of each of its devices: "tty[8803:19]".
std::vector<std::string> criu_names(const Terminal& terminal);

}  // namespace gob::migration
