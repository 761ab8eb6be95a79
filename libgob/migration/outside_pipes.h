// Pipes of processes that move to processes that stay: standard streams, most often. They can go on
// through a relay. Functions over /proc; one thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/migration/migration.pb.h"

namespace gob::migration {

class OutsidePipes {
 public:
  // Descriptor `fd` of process `pid`, which moves, is `link`: "pipe:[1]".
  void add(pid_t pid, const std::string& fd, const std::string& link);
  // Those that a process has, too, which stays. `known`: of a migrant, those that are relayed
  // already; null: it never moved. What a relay could not do is said in `obstacles`.
  [[nodiscard]] std::vector<Stream> streams(const std::function<bool(pid_t)>& stays,
                                            const std::vector<Stream>* known,
                                            std::vector<std::string>& obstacles) const;

 private:
  struct End {
    pid_t pid = 0;
    int fd = -1;
    bool read = false, written = false;  // by those that move
    int flags = 0;
    bool packets = false;
  };
  std::map<std::string, End> ends_;  // by link
};

// A descriptor of one's own for what the process has open as the stream.
Result<UniqueFd> take_stream(const Stream& stream);

}  // namespace gob::migration
