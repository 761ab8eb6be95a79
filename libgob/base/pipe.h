// A pipe of one's own: both ends, closed on exec.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"

namespace gob {

struct Pipe {
  UniqueFd out, in;  // to be read from, to be written to
};

// The system's error if there are no descriptors left.
inline Result<Pipe> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return system_error("making a pipe");
  return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

}  // namespace gob
