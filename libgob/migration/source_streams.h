// SourceStreams: a process at the node where a process was started, which stays as long as that runs,
// wherever it is: it holds the ends of its pipes here, and its terminal, and passes bytes on.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/migration/migration.pb.h"

namespace gob::migration {

class SourceStreams {
 public:
  // Forks: to be called before there are threads or connections. It takes no byte yet.
  static Result<SourceStreams> start(const std::string& socket, const std::string& record,
                                     const std::vector<Stream>& streams,
                                     const std::optional<Terminal>& terminal);
  // The process runs elsewhere now. If this object ends without a word, the relay finds out.
  void go();
  // It goes on here: returns when the relay has let go of its pipes.
  void give_up();

 private:
  SourceStreams(pid_t relay, UniqueFd pipe) : relay_(relay), pipe_(std::move(pipe)) {}
  pid_t relay_;
  UniqueFd pipe_;
};

}  // namespace gob::migration
